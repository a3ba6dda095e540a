"""The inner losses of the gradient-based meta-algorithms: their meta-gradients, and what is refused."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import flatten, ravel
from support.probes import Target
from support.settings import iterate, policy_for, setting_of
from surefoot.algorithms import ANIL, EMAML, MAML, ProMP, adapt_to_tasks
from surefoot.baselines import TimeDependent
from surefoot.envs import Navigation2D
from surefoot.options import UserError
from surefoot.rules import GradientStep, OptaxStep, PPOClip
from surefoot.theory.objectives import loss_and_gradient
from surefoot.types import MetaBatch

KEY = jax.random.key(5)
INNER = GradientStep(lr=0.3)


def begun(algorithm: Any, **options: Any) -> tuple[Any, Any]:
    """On episodes of several steps, with a baseline."""
    setting = setting_of(Navigation2D(horizon=4), episodes=4, baseline=TimeDependent(), **options)
    return setting, algorithm.init(setting, policy_for(setting, output_scale=1.0), KEY)


@pytest.mark.parametrize("control_variate", [True, False])
def test_the_meta_gradient_of_dice_is_that_of_finite_differences(control_variate: bool, x64: None):
    """Through two inner steps, at a policy that has left the data."""
    algorithm = MAML(
        INNER,
        inner_steps=2,
        tasks=3,
        inner_loss="dice",
        dice_lambda=0.8,
        control_variate=control_variate,
        chunk=2,
    )
    setting, state = begun(algorithm)
    tasks = setting.sampler.env.sample_tasks(KEY, 3)
    adapter = algorithm.adapter(setting.estimator, state)
    batches = adapt_to_tasks(setting.sampler, adapter, state.policy, tasks, KEY, 2).batches
    assert (batches[0].transitions is None) is control_variate, "kept only where they are used"
    batch = MetaBatch(batches[:-1], batches[-1])
    objective = algorithm.objective({})
    vector, build = flatten(state.policy)
    moved = vector + 0.05 * jax.random.normal(KEY, vector.shape, vector.dtype)

    def loss(v: jax.Array) -> jax.Array:
        return objective.loss(objective.predict(build(v), batch), batch)

    _, gradient = eqx.filter_jit(loss_and_gradient)(objective, build(moved), batch)
    steps = 1e-5 * jnp.eye(len(moved))
    expected = jax.jit(jax.vmap(lambda h: (loss(moved + h) - loss(moved - h)) / 2e-5))(steps)
    np.testing.assert_allclose(flatten(gradient)[0], expected, rtol=1e-5, atol=1e-8)


def test_an_iteration_with_each_inner_loss():
    """The first-order part of every step is the same: adaptation does not depend on the loss, the meta-step
    does. Without the past, DiCE is the surrogate."""
    found, algorithm = {}, MAML(INNER, OptaxStep("sgd", lr=0.1), tasks=3, inner_loss="dice")
    for name, options in {
        "dice": {},
        "without the past": {"dice_lambda": 0.0},
        "surrogate": {"inner_loss": "surrogate"},
        "reinforce": {"inner_loss": "reinforce"},
    }.items():
        chosen = replace(algorithm, **options)
        setting, state = begun(chosen)
        following, metrics = iterate(chosen, setting, state, KEY)
        found[name] = ravel(following.policy), metrics["return"]
    for name, (_, reached) in found.items():
        np.testing.assert_allclose(reached, found["dice"][1], rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(found["without the past"][0], found["surrogate"][0], atol=1e-6)
    different = [found[name][0] for name in ("dice", "surrogate", "reinforce")]
    for i, a in enumerate(different):
        for b in different[:i]:
            assert float(jnp.abs(a - b).max()) > 1e-5


def test_promp_takes_it_too():
    """Its inner loss holds at the policies of its later steps."""
    algorithm = ProMP(INNER, tasks=3, inner_loss="dice")
    setting, state = begun(algorithm)
    following, metrics = iterate(algorithm, setting, state, KEY)
    assert metrics["loss_after"] < metrics["loss"]
    assert np.isfinite(ravel(following.policy)).all()


REFUSED = {
    "twice the effect on the data": (EMAML(INNER, inner_loss="dice"), "it would count twice"),
    "first order": (MAML(INNER, order="first", inner_loss="dice"), "differs from surrogate in its second"),
    "no λ of the surrogate": (
        MAML(INNER, inner_loss="surrogate", dice_lambda=0.5),
        "which they do not change",
    ),
    "no control variate of the pseudo-loss": (
        ANIL(INNER, control_variate=False),
        "the inner loss is reinforce",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_effect_is_refused(name: str):
    algorithm, message = REFUSED[name]
    setting = setting_of(Target())
    with pytest.raises(UserError, match=message):
        algorithm.init(setting, policy_for(setting, hidden=(2,)), KEY)
    with pytest.raises(UserError, match="between 0 and 1"):
        MAML(dice_lambda=1.5)


def test_a_clipped_inner_step_is_refused():
    setting, state = begun(MAML(PPOClip(minibatches=1), tasks=2, inner_loss="dice"))
    with pytest.raises(UserError, match="ppo-clip as the inner rule would clip"):
        iterate(MAML(PPOClip(minibatches=1), tasks=2, inner_loss="dice"), setting, state, KEY)
