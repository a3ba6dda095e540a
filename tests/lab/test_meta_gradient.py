"""The exact meta-gradients by other ways, and the experiment that measures their estimators."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.lab import run
from surefoot.lab.base import Result
from surefoot.lab.exact import solve
from surefoot.lab.meta_estimators import DICE, INNER, LVC, PSEUDO, ascent, meta, sample
from surefoot.lab.meta_gradient import NAMES, MetaGradient
from surefoot.lab.meta_problems import (
    Tasks,
    Vector,
    batch_of,
    chain_rule_gradient,
    expected_return,
    limit,
    meta_gradient,
    meta_objective,
    sampled_objective_gradient,
    table,
    two_chains,
)
from surefoot.lab.problems import chain_policy
from surefoot.options import UserError
from surefoot.theory.dice import DiceObjective

SMALL = MetaGradient(horizon=3, episodes=(4, 32), inner_steps=1, batches=1000)


@pytest.fixture(scope="module")
def result() -> Result:
    return run(SMALL, seed=0)


@pytest.mark.parametrize("i", range(13))
def test_claims(result: Result, i: int):
    assert len(result.claims) == 13
    assert result.claims[i].holds, result.claims[i]


def test_the_table_has_every_estimator_at_every_size(result: Result):
    assert [row[:3] for row in result.rows] == [
        (steps, n, name) for steps, n in ((1, 4), (1, 32)) for name in NAMES
    ]
    assert result.png().startswith(b"\x89PNG")


def start(horizon: int = 3) -> tuple[Tasks, Vector]:
    return two_chains(horizon, 4.0), chain_policy().table.reshape(-1)


@pytest.mark.parametrize("steps", [1, 2])
def test_exact_derivatives_by_finite_differences(steps: int, x64: None):
    tasks, vector = start()
    moves = 1e-5 * jnp.eye(len(vector))
    at = jax.jit(jax.vmap(lambda v: meta_objective(tasks, v, steps)))
    differences = (at(vector + moves) - at(vector - moves)) / 2e-5
    np.testing.assert_allclose(meta_gradient(tasks, vector, steps), differences, atol=1e-9)
    rows = [
        (meta_gradient(tasks, vector + h, steps) - meta_gradient(tasks, vector - h, steps)) / 2e-5
        for h in moves
    ]
    hessian = eqx.filter_jit(jax.hessian(lambda v: meta_objective(tasks, v, steps)))(vector)
    np.testing.assert_allclose(hessian, jnp.stack(rows), atol=1e-7)


def test_the_two_tasks_are_mirror_images(x64: None):
    tasks, _ = start()
    right, left = np.asarray(tasks.problems.mdp.rewards)
    np.testing.assert_array_equal(right, [[0.2, 0], [0, 0], [0, 1]])
    np.testing.assert_array_equal(left, [[1, 0], [0, 0], [0, 0.2]])
    uniform = tasks.chances * 2.0**-tasks.horizon
    np.testing.assert_allclose(uniform.sum(axis=1), 1.0, rtol=1e-12)


def test_the_return_after_a_sampled_step_by_finite_differences(x64: None):
    """For one episode: a sum over all of them, with the step that each gives written out."""
    tasks, vector = start()
    old = [jax.tree.map(lambda x, i=i: x[i], tasks) for i in range(2)]

    def expected(v: Vector) -> jax.Array:
        total = jnp.zeros(())
        for task in old:
            values = solve(task.problems, table(vector, task.problems).probabilities).values
            advantages = batch_of(task.problems, vector, task.episodes, values).advantages

            def one(states: Any, actions: Any, advantage: Any, chance: Any, task: Tasks = task) -> jax.Array:
                def log_probs(v: Vector) -> jax.Array:
                    return jax.nn.log_softmax(v.reshape(3, 2))[states, actions]

                step = jax.grad(lambda v: jnp.mean(log_probs(v) * advantage))(v)
                after = expected_return(task.problems, v + tasks.lr * step)
                return chance * jnp.exp(log_probs(v).sum()) * after

            parts = task.episodes.states, task.episodes.actions, advantages, task.chances
            total += jnp.sum(jax.vmap(one)(*parts)) / 2
        return total

    moves = 1e-5 * jnp.eye(len(vector))
    at = jax.jit(jax.vmap(expected))
    differences = (at(vector + moves) - at(vector - moves)) / 2e-5
    np.testing.assert_allclose(sampled_objective_gradient(tasks, vector, 1), differences, atol=1e-9)


@pytest.mark.parametrize("control_variate", [True, False])
def test_dice_is_exact_through_two_steps_with_all_trajectories_as_data(control_variate: bool, x64: None):
    tasks, vector = start()
    truth = chain_rule_gradient(tasks, vector, 2)
    np.testing.assert_allclose(meta_gradient(tasks, vector, 2), truth, atol=1e-12)
    inner = DiceObjective(1.0, control_variate)
    np.testing.assert_allclose(limit(tasks, vector, inner, 2), truth, atol=1e-12)
    assert jnp.linalg.norm(limit(tasks, vector, INNER[LVC], 2) - truth) > 0.05 * jnp.linalg.norm(truth)


def test_many_episodes_come_to_the_limit(x64: None):
    """One data set of many episodes against all trajectories, for the inner losses that differ most."""

    tasks, vector = start()
    data = eqx.filter_jit(sample)(tasks, vector, jax.random.key(0), 20_000, 1)
    for inner in (PSEUDO, INNER[DICE]):
        got = eqx.filter_jit(ascent)(tasks, meta(tasks, inner), vector, vector, data)
        expected = limit(tasks, vector, inner, 1)
        assert jnp.linalg.norm(got - expected) < 0.1 * jnp.linalg.norm(expected)


@pytest.mark.parametrize(
    "options",
    [
        {"horizon": 1},
        {"lr": 0.0},
        {"episodes": (5,)},
        {"episodes": (9, 5)},
        {"inner_steps": 0},
        {"batches": 10},
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any]):
    with pytest.raises(UserError, match=next(iter(options)).replace("_", "-")):
        MetaGradient(**options)
