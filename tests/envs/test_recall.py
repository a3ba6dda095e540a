from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.envs import Recall
from surefoot.envs.recall import RecallState
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP
from surefoot.samplers import ScanSampler
from surefoot.types import Discrete, vector

KEY = jax.random.key(0)
TASK = jnp.zeros(0)
EPISODES = 4000


@partial(jax.jit, static_argnums=0)
def steps(env: Recall, cue: jax.Array, answer: jax.Array) -> Any:
    """The steps to the horizon."""

    def advance(state: RecallState, _: None) -> tuple[RecallState, Any]:
        step = env.step(KEY, state, answer, TASK)
        return step.state, step

    start = RecallState(cue, jnp.array(0, jnp.int32))
    return jax.lax.scan(advance, start, length=env.horizon)[1]


def episode(env: Recall, cue: int, answer: int) -> tuple[list, list, list]:
    """Observations, rewards and ends, from a given cue to the horizon, with the same answer at each step."""
    found = steps(env, jnp.array(cue, jnp.int32), jnp.array(answer, jnp.int32))
    return found.observation.tolist(), found.reward.tolist(), found.terminated.tolist()


def test_what_it_is():
    env = Recall(cues=3, delay=5)
    assert (env.observation_space, env.action_space, env.horizon) == (vector(4), Discrete(3), 8)
    assert env.time_limit_ends_return


def test_an_episode_by_hand():
    seen, earned, ended = episode(Recall(cues=3, delay=2), cue=1, answer=1)
    assert seen[:3] == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert earned == [0, 0, 0, 1, 0]
    assert ended == [False, False, False, True, False]


@pytest.mark.parametrize("cue", [0, 1, 2])
@pytest.mark.parametrize("answer", [0, 1, 2])
def test_only_the_cue_is_right_and_only_at_the_query(cue: int, answer: int):
    assert sum(episode(Recall(cues=3, delay=1), cue, answer)[1]) == (cue == answer)


def test_without_a_delay_the_query_follows_the_cue():
    seen, earned, ended = episode(Recall(delay=0), cue=0, answer=0)
    assert seen[0] == [0, 0, 1]
    assert earned[:2] == [0, 1]
    assert ended[:2] == [False, True]


def test_what_follows_the_first_observation_does_not_tell_the_cue():
    assert episode(Recall(), 0, 0)[0] == episode(Recall(), 1, 0)[0]


def test_cues_are_shown_and_equally_likely():
    reset = jax.jit(jax.vmap(lambda key: Recall(cues=4).reset(key, TASK)))
    states, observations = reset(jax.random.split(KEY, EPISODES))
    np.testing.assert_array_equal(observations, np.eye(5)[np.asarray(states.cue)])
    frequencies = np.bincount(states.cue, minlength=4) / EPISODES
    np.testing.assert_array_less(np.abs(frequencies - 0.25), 4 * np.sqrt(0.25 * 0.75 / EPISODES))


def _decided(policy: Any) -> Any:
    """Its preferences made so strong that it does the same thing each time it sees the same."""
    return jax.tree.map(lambda x: 50 * x if eqx.is_inexact_array(x) else x, policy)


def test_a_policy_without_memory_recalls_no_more_than_chance():
    env = Recall(cues=2, delay=3)
    sampler = ScanSampler(env, EPISODES)
    for seed in range(3):
        key = jax.random.key(seed)
        built = CategoricalMLP(hidden=(8,)).build(key, env.observation_space, env.action_space)
        for policy in (built, _decided(built)):
            rollout = jax.tree.map(np.asarray, sampler.submit(policy, TASK, KEY).result())
            np.testing.assert_array_equal(rollout.valid.sum(1), 5)
            np.testing.assert_array_equal(rollout.terminated.sum(1), 1)
            recalled = rollout.rewards.sum(1)
            assert abs(recalled.mean() - 1 / env.cues) < 4 * np.sqrt(0.25 / EPISODES)


def test_a_policy_that_remembers_earns_the_best_return():
    env = Recall(cues=3)

    def played(key: jax.Array) -> jax.Array:
        state, observation = env.reset(key, TASK)
        cue, earned = jnp.argmax(observation).astype(jnp.int32), 0.0
        for _ in range(env.delay + 2):
            step = env.step(key, state, cue, TASK)
            state, earned = step.state, earned + step.reward
        return earned

    returns = jax.jit(jax.vmap(played))(jax.random.split(KEY, 20))
    np.testing.assert_array_equal(returns, 1)


@pytest.mark.parametrize("options", [{"cues": 1}, {"delay": -1}])
def test_wrong_options_are_refused(options: dict):
    with pytest.raises(UserError, match="must be"):
        Recall(**options)
