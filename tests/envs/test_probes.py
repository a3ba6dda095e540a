from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.checks import check_env
from surefoot.envs import (
    AbstractProbe,
    ActionReward,
    ConstantReward,
    DelayedReward,
    EndlessReward,
    ObservedAction,
    ObservedReward,
)
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP, GaussianMLP
from surefoot.samplers import ScanSampler
from surefoot.theory.returns import reward_to_go
from surefoot.types import Continuous, Discrete, Rollout

KEY = jax.random.key(0)
TASK = jnp.zeros(0)
EPISODES = 2000
PROBES = [ConstantReward, ObservedReward, DelayedReward, EndlessReward, ActionReward, ObservedAction]
ONE = jnp.ones(1)


@cache
def played(env: AbstractProbe) -> Rollout:
    """Episodes of the random policy, as NumPy's arrays."""
    discrete = isinstance(env.action_space, Discrete)
    options: Any = CategoricalMLP if discrete else GaussianMLP
    policy = options(hidden=(), output_scale=0.0).build(KEY, env.observation_space, env.action_space)
    return jax.tree.map(np.asarray, ScanSampler(env, EPISODES).submit(policy, TASK, KEY).result())


def mean_return(env: AbstractProbe) -> float:
    return float(played(env).rewards.sum(1).mean())


def taken(env: AbstractProbe, action: Any, state: Any = ONE) -> Any:
    kind = jnp.int32 if isinstance(action, int) else float
    return env.step(KEY, state, jnp.asarray(action, kind), TASK)


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
@pytest.mark.parametrize("probe", PROBES)
def test_they_keep_the_contract(probe: Any, actions: Any):
    env = probe(actions=actions)
    assert check_env(env) == []
    assert env.action_space == (Discrete(2) if actions == "discrete" else Continuous(1))
    assert not env.time_limit_ends_return


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
@pytest.mark.parametrize("probe", PROBES)
def test_the_value_of_the_random_policy_is_the_mean_of_its_returns(probe: Any, actions: Any):
    env, discount = probe(actions=actions), 0.9
    rollout = played(env)

    @jax.jit
    def values_and_returns(rollout: Rollout) -> tuple[jax.Array, jax.Array, jax.Array]:
        random, best = (
            jax.vmap(jax.vmap(lambda observation, f=f: f(observation, discount)))
            for f in (env.random_value, env.optimal_value)
        )
        # Cut short, the return goes on with the value of what follows.
        following = discount * random(rollout.next_observations)
        rewards = rollout.rewards + jnp.where(rollout.truncated, following, 0.0)
        going_on = jnp.where(rollout.terminated | rollout.truncated, 0.0, jnp.array(discount))
        returns = jax.vmap(reward_to_go)(rewards, going_on)
        return random(rollout.observations), best(rollout.observations), returns

    value, best, returns = map(np.asarray, values_and_returns(rollout))
    error = (returns - value)[rollout.valid]
    assert abs(error.mean()) <= 4 * error.std() / np.sqrt(error.size) + 1e-5
    if probe in (ConstantReward, ObservedReward, DelayedReward, EndlessReward):
        np.testing.assert_allclose(error, 0.0, atol=1e-5)
        np.testing.assert_array_equal(best, value)
    else:
        np.testing.assert_array_equal(np.abs(returns), 1.0)


@pytest.mark.parametrize(
    ("probe", "observation", "best", "random"),
    [
        (ConstantReward(), [1.0], 1.0, 1.0),
        (ObservedReward(), [-1.0], -1.0, -1.0),
        (ObservedReward(), [1.0], 1.0, 1.0),
        (DelayedReward(), [1.0, 0.0], 0.5, 0.5),
        (DelayedReward(), [0.0, 1.0], 1.0, 1.0),
        (DelayedReward(steps=4), [1.0, 0.0, 0.0, 0.0], 0.125, 0.125),
        (EndlessReward(), [1.0], 2.0, 2.0),
        (ActionReward(), [1.0], 1.0, 0.0),
        (ObservedAction(), [-1.0], 1.0, 0.0),
    ],
)
def test_values_by_hand(probe: AbstractProbe, observation: list[float], best: float, random: float):
    assert probe.optimal_value(jnp.array(observation), 0.5) == best
    assert probe.random_value(jnp.array(observation), 0.5) == random


@pytest.mark.parametrize("probe", [ConstantReward, ObservedReward, ActionReward, ObservedAction])
def test_one_step_ends_the_one_step_probes(probe: Any):
    rollout = played(probe())
    assert rollout.terminated.shape == (EPISODES, 1)
    assert rollout.terminated.all()


def test_the_observed_reward_is_a_fair_coin():
    rollout = played(ObservedReward())
    np.testing.assert_array_equal(rollout.observations[..., 0], rollout.rewards)
    assert set(np.unique(rollout.rewards)) == {-1.0, 1.0}
    assert abs(rollout.rewards.mean()) < 4 / np.sqrt(EPISODES)


def test_the_delayed_reward_comes_last_and_ends_the_episode():
    rollout = played(DelayedReward(steps=3))
    np.testing.assert_array_equal(rollout.observations[0, :3], np.eye(3))
    np.testing.assert_array_equal(rollout.rewards[0], [0, 0, 1, 0])
    np.testing.assert_array_equal(rollout.terminated[0], [False, False, True, False])
    np.testing.assert_array_equal(rollout.valid[0], [True, True, True, False])
    assert not rollout.truncated.any()


@pytest.mark.parametrize("probe", [ConstantReward(), ActionReward(), ObservedAction()])
def test_a_value_bootstrapped_at_the_end_would_not_be_zero(probe: AbstractProbe):
    done = taken(probe, 1)
    assert done.terminated
    assert probe.optimal_value(done.observation, 0.9) == 1


def test_the_endless_reward_is_cut_short_and_does_not_end():
    rollout = played(EndlessReward(horizon=5))
    np.testing.assert_array_equal(rollout.rewards, np.ones((EPISODES, 5)))
    assert not rollout.terminated.any()
    np.testing.assert_array_equal(rollout.truncated[0], [False] * 4 + [True])


@pytest.mark.parametrize(
    ("actions", "action", "reward"),
    [
        ("discrete", 0, -1.0),
        ("discrete", 1, 1.0),
        ("continuous", [-0.3], -1.0),
        ("continuous", [0.0], -1.0),
        ("continuous", [7.0], 1.0),
    ],
)
def test_which_actions_are_good(actions: Any, action: Any, reward: float):
    assert taken(ActionReward(actions=actions), action).reward == reward
    assert taken(ObservedAction(actions=actions), action, ONE).reward == reward
    assert taken(ObservedAction(actions=actions), action, -ONE).reward == -reward


@pytest.mark.parametrize("probe", [ActionReward, ObservedAction])
@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_random_policies_earn_nothing(probe: Any, actions: Any):
    assert abs(mean_return(probe(actions=actions))) < 4 / np.sqrt(EPISODES)


@pytest.mark.parametrize(("probe", "option"), [(DelayedReward, "steps"), (EndlessReward, "horizon")])
def test_wrong_options_are_refused(probe: Any, option: str):
    with pytest.raises(UserError, match=f"{option} is 0; it must be"):
        probe(**{option: 0})


def test_the_endless_reward_has_no_value_without_discounting():
    with pytest.raises(UserError, match=r"discount is 1\.0"):
        EndlessReward().optimal_value(ONE, 1.0)
