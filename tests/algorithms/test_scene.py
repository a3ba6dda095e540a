"""Learning from observations that have a picture and a vector."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from surefoot import Learner
from surefoot.algorithms import SingleTask
from surefoot.checks import check_env
from surefoot.envs import AbstractEnv, Step
from surefoot.policies import ActorCritic
from surefoot.rules import PPOClip
from surefoot.types import Discrete, Key, Task, image, vector


@dataclass(frozen=True)
class Scene(AbstractEnv):
    """A picture with one bright side, and a switch. Pays 1 for the bright side, or for the dark one where the
    switch is on. One step."""

    horizon = 1
    action_space = Discrete(2)
    time_limit_ends_return = True

    @property
    def observation_space(self) -> Any:
        return {"picture": image(7, 8, 1), "switch": vector(1)}

    def sample_tasks(self, key: Key, n: int) -> Task:
        return jnp.zeros((n, 0))

    def reset(self, key: Key, task: Task) -> Any:
        bright, switch = jax.random.bernoulli(key, shape=(2,)).astype(jnp.int32)
        picture = jnp.zeros((7, 8, 1), jnp.uint8).at[:, jnp.where(bright == 1, 6, 1)].set(255)
        return bright ^ switch, {"picture": picture, "switch": switch.astype(float)[None]}

    def step(self, key: Key, state: Any, action: Any, task: Task) -> Step:
        observation = self.reset(key, task)[1]
        return Step(state, observation, (action == state).astype(float), jnp.ones((), bool))


def test_a_picture_and_a_vector_are_used_together():
    learner = Learner(
        env=Scene(),
        algorithm=SingleTask(PPOClip(lr=2e-3)),
        policy=ActorCritic(hidden=(16,)),
        episodes=128,
        seed=1,
    )
    learner.train(40, callback=lambda *_: None)
    # Either part alone is worth one half.
    assert learner.evaluate().returns.mean() > 0.95


def test_it_keeps_the_contract():
    assert not [problem for problem in check_env(Scene()) if problem.severity == "error"]
