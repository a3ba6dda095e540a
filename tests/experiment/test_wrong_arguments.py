"""Wrong arguments in Python: one message that says what was given and what it must be."""

import os
import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.algorithms import MAML, Reinforce
from surefoot.envs import Bandit, Navigation2D, TabularMDP
from surefoot.experiment import Learner
from surefoot.experiment.evaluation import stack_tasks
from surefoot.options import UserError, described, fits
from surefoot.policies import GRU, GaussianMLP
from surefoot.rules import GradientStep, OptaxStep, PPOClip, TrustRegion

pytestmark = [
    pytest.mark.as_users,
    pytest.mark.skipif(
        "SUREFOOT_TEST_AS_USERS" not in os.environ,
        reason="checked types raise an error of their own: run by test_as_users.py",
    ),
]


def learner() -> Any:
    """Without its types, as in a notebook."""
    return Learner("bandit", episodes=2, options={"tasks": 2})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PPOClip(lr="0.1"), "lr is '0.1'; it must be a number."),
        (lambda: PPOClip(lr=None), "lr is None; it must be a number."),
        (lambda: PPOClip(minibatches=2.5), "minibatches is 2.5; it must be a whole number."),
        (lambda: PPOClip(minibatches=True), "minibatches is True; it must be a whole number."),
        (lambda: PPOClip(stop_kl="no"), "stop-kl is 'no'; it must be a number or none."),
        (lambda: TrustRegion(max_kl=[0.1]), "max-kl is [0.1]; it must be a number."),
        (lambda: GradientStep("x"), "lr is 'x'; it must be a number or a tuple."),
        (lambda: GradientStep((0.1, "x")), "lr is (0.1, 'x'); it must be a number or a tuple."),
        (lambda: OptaxStep("adamm"), "optimiser is 'adamm'; it must be 'sgd' or 'adam'"),
        (lambda: MAML(inner="gradient-step"), "inner is 'gradient-step'; it must be an object of class"),
        (lambda: MAML(GradientStep, TrustRegion()), "inner is <class"),
        (lambda: MAML(GradientStep(), TrustRegion(), tasks=4.0), "tasks is 4.0; it must be a whole number."),
        (
            lambda: Reinforce(step=GradientStep()),
            "step is GradientStep(lr=0.1); it must be an object of class",
        ),
        (lambda: GRU(units="64"), "units is '64'; it must be a whole number."),
        (lambda: Learner(5), "experiment is 5; it must be a preset's name or a Config."),
        (lambda: Learner("bandit", seed="0"), "seed is '0'; it must be a whole number."),
        (lambda: Learner("bandit", iterations="5"), "iterations is '5'; it must be a whole number."),
        (lambda: Learner("bandit", options={"outer.max-kl": "a"}), "max-kl is 'a'; it must be a number."),
        (
            lambda: Learner("bandit", policy="gruu"),
            "There is no 'gruu' among the policies. Did you mean 'gru'?",
        ),
        (lambda: Learner("bandit", policy=5), "policy is 5; it must be an object of class"),
        (lambda: Learner(env=5), "env is 5; it must be an environment, its name, or a function"),
        (
            lambda: Learner(env=Bandit(), algorithm=5),
            "algorithm is 5; it must be an object, as surefoot.MAML()",
        ),
        (lambda: Learner(env=Bandit(), algorithm=MAML), "algorithm is <class"),
        (lambda: learner().train("5"), "iterations is '5'; it must be a whole number, 0 or more."),
        (lambda: learner().train(-1), "iterations is -1; it must be a whole number, 0 or more."),
        (
            lambda: learner().train(callback=5),
            "callback is 5; it must be a function of an Event, or several.",
        ),
        (lambda: learner().evaluate("x"), "tasks is 'x'; it must be a whole number."),
        (lambda: learner().evaluate(2.5), "tasks is 2.5; it must be a whole number."),
        (lambda: learner().evaluate([]), "tasks is []; it must be one task or more."),
        (lambda: learner().evaluate([3.0]), "task is 3.0; it must be as a task of Bandit is: f32[10]."),
        (lambda: learner().adapt(None), "task is None; it must be as a task of Bandit is: f32[10]."),
        (lambda: learner().adapt("goal"), "task is 'goal'; it must be as a task of Bandit is: f32[10]."),
    ],
)
def test_the_message_says_what_it_must_be(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    "made", [lambda: Learner(env=Navigation2D), lambda: Learner(env=Navigation2D(), policy="gru")]
)
def test_classes_and_names_stand_for_parts_with_defaults(made: Callable[[], Learner]) -> None:
    assert made().config.env == Navigation2D()


def test_a_list_is_taken_for_a_tuple() -> None:
    made: Any = GaussianMLP(hidden=[64, 32])  # pyright: ignore[reportArgumentType]
    assert made == GaussianMLP(hidden=(64, 32))
    assert hash(made) == hash(GaussianMLP(hidden=(64, 32)))


def test_a_task_may_be_given_as_numbers() -> None:
    expected = jnp.array([[0.5, -0.25], [0.0, 1.0]])
    for tasks in ([(0.5, -0.25), [0, 1]], list(expected), expected, np.array(expected)):
        np.testing.assert_array_equal(stack_tasks(Navigation2D(), tasks), expected)


def test_tasks_may_be_what_the_family_draws() -> None:
    for env in (TabularMDP(states=2), Navigation2D()):
        drawn = env.sample_tasks(jax.random.key(1), 3)
        assert eqx.tree_equal(stack_tasks(env, drawn), drawn)
    with pytest.raises(UserError, match="it must be one task or more"):
        stack_tasks(Navigation2D(), object())


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, float, True),
        (np.float32(1), float, True),
        (jnp.ones(()), float, True),
        (jnp.ones(()), int, False),
        (np.int64(1), int, True),
        (False, int, False),
        (1, bool, False),
        ((1, 2.0), tuple[float, ...], True),
        ((1, 2.0), tuple[int, ...], False),
        ((1,), tuple[int, int], False),
        ([1], tuple[int, ...], False),
        (object(), Any, True),
    ],
)
def test_what_fits(value: Any, kind: Any, expected: bool) -> None:
    assert fits(value, kind) is expected


def test_types_in_words() -> None:
    assert described(tuple[int, int]) == "a tuple of 2"
    assert described(float | None) == "a number or none"
