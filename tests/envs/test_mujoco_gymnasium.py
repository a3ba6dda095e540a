"""Gymnasium's environments are the measure: what they observe, pay and end, ours do, step for step."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot import envs
from surefoot.envs import AbstractFamily
from surefoot.types import Continuous, Task

KEY = jax.random.key(0)
ROLLED = ("HalfCheetah", "Hopper", "Walker2d", "Swimmer", "InvertedPendulum")
"""Bodies whose rows advance in one call, which does not return the solver's own guess."""
MEASURED = ("Ant", "Humanoid", "Reacher", "InvertedDoublePendulum")
PLAIN = ROLLED + MEASURED
NOWHERE = jnp.zeros((1, 0))
LIMIT = 200


class Pair:
    """One episode of a family and of Gymnasium's environment of the same body, side by side."""

    def __init__(self, family: Any, name: str, task: Task = NOWHERE, **options: Any) -> None:
        made = gymnasium.make(f"{name}-v5", disable_env_checker=True, **options)
        self.theirs: Any = made.unwrapped
        self.ours = family.simulator(threads=1)
        self.task, self.rolled = task, not family.body.measured
        self.data, self.model = self.theirs.data, self.theirs.model
        self.low, self.high = self.model.actuator_ctrlrange.T

    def begin(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The first observations, ours and theirs: the key is the seed in the other's words."""
        observation, _ = self.theirs.reset(seed=seed)
        return self.ours.begin(np.array([[0, seed]], np.uint32), self.task)[0], single(observation)

    def step(self, action: np.ndarray) -> tuple[Any, Any]:
        """What came of it: observation, reward, terminated."""
        if self.rolled:
            self.data.qacc_warmstart[:] = self.ours.save().view(float)[0, -self.model.nv :]
        observation, reward, terminated, _, _ = self.theirs.step(action)
        outcome = self.ours.step(np.arange(1), action[None])
        return [x[0] for x in outcome], (single(observation), reward, terminated)


def single(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)


def same(ours: Any, theirs: Any, what: str) -> None:
    np.testing.assert_array_equal(ours[0], theirs[0], err_msg=what)
    # Rewards are summed in another order, and then rounded to single precision.
    np.testing.assert_allclose(ours[1], theirs[1], rtol=2e-7, atol=2e-7, err_msg=what)
    assert ours[2] == theirs[2], what


@pytest.mark.parametrize("name", PLAIN)
def test_what_they_are(name: str):
    family = getattr(envs, name)()
    spec = gymnasium.spec(f"{name}-v5")
    theirs: Any = gymnasium.make(spec, disable_env_checker=True).unwrapped
    assert family.horizon == spec.max_episode_steps
    assert not family.time_limit_ends_return
    assert (family.observation_size,) == theirs.observation_space.shape
    assert family.action_space == Continuous(theirs.model.nu)
    assert family.dt == theirs.dt
    assert family.sample_tasks(KEY, 3).shape == (3, 0)


@pytest.mark.parametrize("name", PLAIN)
def test_every_step_is_gymnasiums(name: str):
    pair = Pair(getattr(envs, name)(), name)
    generator = np.random.default_rng(1)
    seed, time, ended = 0, LIMIT, False
    for i in range(2000):
        if ended or time == LIMIT:
            np.testing.assert_array_equal(*pair.begin(seed))
            seed, time = seed + 1, 0
        # Now and then a motor is at its limit, and sometimes all of them rest.
        action = np.clip(generator.uniform(-1.2, 1.2, len(pair.high)) * pair.high, pair.low, pair.high)
        ours, theirs = pair.step(action * (i % 7 != 0))
        same(ours, theirs, f"step {i}")
        ended, time = theirs[2], time + 1


@pytest.mark.parametrize("name", ROLLED)
def test_without_the_solvers_guess_a_step_is_gymnasiums_to_rounding(name: str):
    """The solver converges to the same forces from anywhere. Its tolerance is 1e-8 in the cost, which
    Newton's method passes by far: positions and velocities agree to 1e-10."""
    pair = Pair(getattr(envs, name)(), name)
    generator, nq, nv = np.random.default_rng(2), pair.model.nq, pair.model.nv
    pair.begin(0)
    for i in range(600):
        state = pair.ours.save().view(float)
        state[0, 1 : 1 + nq], state[0, 1 + nq : 1 + nq + nv] = pair.data.qpos, pair.data.qvel
        pair.ours.restore(state.view(np.uint32), pair.task)
        action = generator.uniform(pair.low, pair.high)
        terminated = pair.theirs.step(action)[2]
        pair.ours.step(np.arange(1), action[None])
        now = pair.ours.snapshot(np.arange(1))
        np.testing.assert_allclose(now.qpos[0], pair.data.qpos, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(now.qvel[0], pair.data.qvel, rtol=1e-10, atol=1e-10)
        if terminated or i % LIMIT == LIMIT - 1:
            pair.theirs.reset(seed=i)


def test_the_bodies_that_are_found_by_number():
    ant: Any = gymnasium.make("Ant-v5", disable_env_checker=True).unwrapped
    reacher: Any = gymnasium.make("Reacher-v5", disable_env_checker=True).unwrapped
    assert ant.model.body("torso").id == 1
    assert (reacher.model.body("fingertip").id, reacher.model.body("target").id) == (3, 4)


def forward(pair: Pair, before: Any) -> float:
    return (pair.data.qpos[0] - before["qpos"][0]) / pair.theirs.dt


def torso(pair: Pair, before: Any) -> np.ndarray:
    return (pair.data.body("torso").xpos - before["torso"])[:2] / pair.theirs.dt


def contact(pair: Pair) -> float:
    return 0.5e-3 * np.sum(np.clip(pair.data.cfrc_ext, -1, 1) ** 2)


def centre(pair: Pair) -> np.ndarray:
    masses = pair.model.body_mass
    return np.sum(masses[:, None] * pair.data.xipos, axis=0)[:2] / np.sum(masses)


def ant_costs(pair: Pair, a: np.ndarray) -> float:
    return 0.5e-2 * np.sum(a**2) + contact(pair) - 0.05


def ant_goal(pair: Pair, before: Any, a: np.ndarray, goal: np.ndarray) -> float:
    x, y, _ = pair.data.body("torso").xpos
    return 4.0 - abs(x - goal[0]) - abs(y - goal[1]) - ant_costs(pair, a)


def humanoid_heading(pair: Pair, before: Any, a: np.ndarray, heading: np.ndarray) -> float:
    # As ProMP's code has it: a quarter of the way, by the time step of the physics.
    linear = 0.25 * np.dot(heading, centre(pair) - before["centre"]) / pair.model.opt.timestep
    impact = min(0.5e-6 * np.sum(pair.data.cfrc_ext**2), 10.0)
    return linear - 0.1 * np.sum(a**2) - impact + 5.0


REWARDS: dict[str, Any] = {
    "HalfCheetahDirection": lambda p, b, a, task: task * forward(p, b) - 0.05 * np.sum(a**2),
    "HalfCheetahVelocity": lambda p, b, a, task: -abs(forward(p, b) - task) - 0.05 * np.sum(a**2),
    "Walker2dDirection": lambda p, b, a, task: task * forward(p, b) + 1 - 1e-3 * np.sum(a**2),
    "Walker2dVelocity": lambda p, b, a, task: 3.0 - abs(forward(p, b) - task) - 1e-3 * np.sum(a**2),
    "SwimmerDirection": lambda p, b, a, task: task * forward(p, b) - 1e-4 * np.sum(a**2),
    "AntDirection": lambda p, b, a, task: task * torso(p, b)[0] - ant_costs(p, a),
    "AntVelocity": lambda p, b, a, task: 1.0 - abs(torso(p, b)[0] - task) - ant_costs(p, a),
    "AntHeading": lambda p, b, a, task: np.dot(task, torso(p, b)) + 1 - 0.5 * np.sum(a**2) - contact(p),
    "AntGoal": ant_goal,
    "HumanoidHeading": humanoid_heading,
}
BODIES = {name: next(body for body in PLAIN if name.startswith(body)) for name in REWARDS}


@pytest.mark.parametrize("name", REWARDS)
def test_a_familys_steps_are_gymnasiums_and_its_rewards_are_its_own(name: str):
    family = getattr(envs, name)()
    task = family.sample_tasks(KEY, 1)
    options = {"exclude_current_positions_from_observation": False} if name == "AntGoal" else {}
    pair = Pair(family, BODIES[name], task, **options)
    generator = np.random.default_rng(3)
    seed, time, ended = 0, 60, False
    for i in range(240):
        if ended or time == 60:
            np.testing.assert_array_equal(*pair.begin(seed))
            seed, time = seed + 1, 0
        before = {"qpos": pair.data.qpos.copy(), "torso": pair.data.body("torso").xpos.copy()}
        before["centre"] = centre(pair)
        action = generator.uniform(pair.low, pair.high)
        ours, theirs = pair.step(action)
        reward = REWARDS[name](pair, before, action, np.asarray(task[0]))
        same(ours, (theirs[0], reward, theirs[2]), f"step {i}")
        ended, time = theirs[2], time + 1


@pytest.mark.parametrize("name", REWARDS)
def test_what_the_families_are(name: str):
    family: AbstractFamily = getattr(envs, name)()
    plain: AbstractFamily = getattr(envs, BODIES[name])()
    assert family.horizon == (100 if name == "HalfCheetahDirection" else 200)
    assert family.time_limit_ends_return
    assert family.action_space == plain.action_space
    assert family.observation_size == plain.observation_size + 2 * (name == "AntGoal")
