import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from support.probes import Bowl, Point
from surefoot.options import UserError
from surefoot.rules import GradientStep, OptaxStep

# The gradient at (1, 1) is (1, 0); the loss there ½.
BOWL = Bowl([0.0, 1.0], [1.0, 4.0])
START = Point(1.0, 1.0)


def test_a_gradient_step_by_hand():
    rule = GradientStep(lr=0.25)
    policy, state, metrics = rule.step(BOWL, START, None, rule.init(START))
    np.testing.assert_array_equal(policy.x, [0.75, 1.0])
    assert policy.label == 7
    assert state == 1
    assert metrics["loss"] == 0.5
    assert metrics["gradient_norm"] == 1.0


def test_rates_follow_one_another_and_the_last_one_stays():
    rule = GradientStep(lr=(0.5, 0.25))
    policy, state, seen = START, rule.init(START), []
    for _ in range(3):
        policy, state, _ = rule.step(BOWL, policy, None, state)
        seen.append(float(policy.x[0]))
    assert seen == [0.5, 0.375, 0.28125]


def test_a_rate_of_zero_changes_nothing():
    rule = GradientStep(lr=0.0)
    policy, _, _ = rule.step(BOWL, START, None, rule.init(START))
    np.testing.assert_array_equal(policy.x, START.x)


def test_a_step_can_be_differentiated():
    rule = GradientStep(lr=0.25)

    def after(x: jax.Array) -> jax.Array:
        start = eqx.tree_at(lambda p: p.x, START, x)
        return rule.step(BOWL, start, None, rule.init(start))[0].x

    # 1 − α · curvature.
    np.testing.assert_allclose(jax.jacobian(after)(START.x), np.diag([0.75, 0.0]), atol=1e-7)


@pytest.mark.parametrize(
    ("name", "optimiser"),
    [("sgd", optax.sgd), ("adam", optax.adam), ("adamw", optax.adamw), ("rmsprop", optax.rmsprop)],
)
def test_optax_steps_are_those_of_optax(name: str, optimiser: object):
    rule = OptaxStep(optimiser=name, lr=0.1)
    policy, state = Point(2.0, 3.0), rule.init(START)
    by_hand = optimiser(0.1)
    x, memory = jnp.array([2.0, 3.0]), by_hand.init(jnp.array([2.0, 3.0]))
    for _ in range(3):
        policy, state, metrics = rule.step(BOWL, policy, None, state)
        gradient = jnp.array([1.0, 4.0]) * (x - jnp.array([0.0, 1.0]))
        np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(gradient), rtol=1e-6)
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = by_hand.update(gradient, memory, x)
        x = x + updates
    np.testing.assert_allclose(policy.x, x, rtol=1e-6)
    assert not np.allclose(policy.x, [2.0, 3.0])
    assert policy.label == 7


def test_a_long_gradient_is_scaled_down_to_the_limit():
    rule = OptaxStep(optimiser="sgd", lr=1.0, max_gradient_norm=0.5)
    # The gradient at (3, 2) is (3, 4), of norm 5.
    policy, _, metrics = rule.step(BOWL, Point(3.0, 2.0), None, rule.init(START))
    np.testing.assert_allclose(policy.x, [3 - 0.3, 2 - 0.4], rtol=1e-6)
    assert metrics["gradient_norm"] == 5.0


@pytest.mark.parametrize("rule", [GradientStep(lr=0.2), OptaxStep(lr=0.2)], ids=["plain", "adam"])
def test_repeated_steps_find_the_minimum(rule: GradientStep | OptaxStep):
    def turn(carry: tuple, _: None) -> tuple:
        policy, state, _ = rule.step(BOWL, *carry[:1], None, carry[1])
        return (policy, state), None

    (policy, _), _ = jax.lax.scan(turn, (START, rule.init(START)), length=150)
    np.testing.assert_allclose(policy.x, BOWL.centre, atol=0.02)


@pytest.mark.parametrize(
    ("rule", "options", "says"),
    [
        (GradientStep, {"lr": -1.0}, "lr is -1.0; it must be 0 or more, and finite"),
        (GradientStep, {"lr": float("nan")}, "lr is nan"),
        (GradientStep, {"lr": (0.1, float("inf"))}, "0 or more, and finite"),
        (GradientStep, {"lr": ()}, "one learning rate or more"),
        (OptaxStep, {"lr": -1.0}, "lr is -1.0; it must be 0 or more, and finite"),
        (
            OptaxStep,
            {"max_gradient_norm": 0.0},
            "max-gradient-norm is 0.0; it must be a positive number, or none",
        ),
    ],
)
def test_wrong_options_are_refused_with_what_they_must_be(rule: type, options: dict, says: str):
    with pytest.raises(UserError, match=says):
        rule(**options)
