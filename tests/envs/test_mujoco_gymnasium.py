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
ROWS = 4
LIMIT = 200


class Theirs:
    """One of Gymnasium's environments, with its position before the last step."""

    def __init__(self, name: str, **options: Any) -> None:
        made = gymnasium.make(f"{name}-v5", disable_env_checker=True, **options)
        self.env: Any = made.unwrapped
        self.data, self.model = self.env.data, self.env.model
        self.before: dict[str, np.ndarray] = {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """The observation, the reward and whether the episode terminated."""
        self.before = {
            "qpos": self.data.qpos.copy(),
            "torso": self.data.xpos[1].copy(),
            "centre": centre(self),
        }
        observation, reward, terminated, _, _ = self.env.step(action)
        return single(observation), reward, terminated


class Pairs:
    """Episodes of a family, and of Gymnasium's environments of the same body, side by side."""

    def __init__(self, family: Any, name: str, tasks: Task, limit: int, **options: Any) -> None:
        """Episodes are cut short after `limit` steps."""
        self.theirs = [Theirs(name, **options) for _ in range(ROWS)]
        self.ours = family.simulator(threads=1)
        self.all, self.limit, self.tasks = np.arange(ROWS), limit, tasks
        self.rolled = not family.body.measured
        self.seeds, self.times, self.next_seed = np.arange(ROWS), np.zeros(ROWS, int), ROWS
        self.low, self.high = self.theirs[0].model.actuator_ctrlrange.T
        observations = self.ours.begin(self.keys(self.all), tasks)
        np.testing.assert_array_equal(observations, self.reset(self.all))

    def keys(self, rows: np.ndarray) -> np.ndarray:
        """The seeds of these rows in the other's words."""
        return np.array([[0, self.seeds[row]] for row in rows], np.uint32)

    def reset(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([single(self.theirs[row].env.reset(seed=int(self.seeds[row]))[0]) for row in rows])

    def step(self, actions: np.ndarray) -> tuple[Any, Any]:
        """Observations, rewards and ends of all rows, ours and theirs."""
        if self.rolled:
            states = self.ours.save().view(float)
            for row, one in enumerate(self.theirs):
                one.data.qacc_warmstart[:] = states[row, -one.model.nv :]
        theirs = [one.step(action) for one, action in zip(self.theirs, actions, strict=True)]
        return self.ours.step(self.all, actions), [np.stack(x) for x in zip(*theirs, strict=True)]

    def renew(self, terminated: np.ndarray) -> None:
        """New episodes where the last step ended one."""
        self.times += 1
        rows = np.flatnonzero(terminated | (self.times == self.limit))
        if len(rows):
            self.times[rows] = 0
            self.seeds[rows] = self.next_seed + np.arange(len(rows))
            self.next_seed += len(rows)
            np.testing.assert_array_equal(self.ours.renew(rows, self.keys(rows)), self.reset(rows))


def single(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)


def same(ours: Any, theirs: Any, what: str) -> None:
    np.testing.assert_array_equal(ours[0], theirs[0], err_msg=what)
    # Rewards are summed in another order, and then rounded to single precision.
    np.testing.assert_allclose(ours[1], theirs[1], rtol=2e-7, atol=2e-7, err_msg=what)
    np.testing.assert_array_equal(ours[2], theirs[2], err_msg=what)


@pytest.mark.parametrize("name", PLAIN)
def test_every_step_is_gymnasiums(name: str):
    """From the same state, and where the bodies are rolled out, from the same first guess of the solver."""
    family = getattr(envs, name)()
    tasks = family.sample_tasks(KEY, ROWS)
    assert tasks.shape == (ROWS, 0)
    pairs = Pairs(family, name, tasks, LIMIT)
    theirs = pairs.theirs[0].env
    assert family.horizon == gymnasium.spec(f"{name}-v5").max_episode_steps
    assert not family.time_limit_ends_return
    assert family.observation_space.shape == theirs.observation_space.shape
    assert family.action_space == Continuous(theirs.model.nu)
    assert family.dt == theirs.dt
    generator = np.random.default_rng(1)
    for i in range(500):
        # Now and then a motor is at its limit, and sometimes all of them rest.
        actions = generator.uniform(-1.2, 1.2, (ROWS, len(pairs.high))) * pairs.high
        ours, theirs = pairs.step(np.clip(actions, pairs.low, pairs.high) * (i % 7 != 0))
        same(ours, theirs, f"step {i}")
        pairs.renew(theirs[2])


@pytest.mark.parametrize("name", ROLLED)
def test_without_the_solvers_guess_a_step_is_gymnasiums_to_rounding(name: str):
    """The solver converges to the same forces from anywhere. Its tolerance is 1e-8 in the cost, which
    Newton's method passes by far: positions and velocities agree to 1e-10."""
    pairs = Pairs(getattr(envs, name)(), name, jnp.zeros((ROWS, 0)), LIMIT)
    pairs.rolled = False
    generator, nq, nv = np.random.default_rng(2), pairs.theirs[0].model.nq, pairs.theirs[0].model.nv
    for _ in range(150):
        states = pairs.ours.save().view(float)
        states[:, 1 : 1 + nq] = [one.data.qpos for one in pairs.theirs]
        states[:, 1 + nq : 1 + nq + nv] = [one.data.qvel for one in pairs.theirs]
        pairs.ours.restore(states.view(np.uint32), pairs.tasks)
        _, theirs = pairs.step(generator.uniform(pairs.low, pairs.high, (ROWS, len(pairs.high))))
        now = pairs.ours.snapshot(pairs.all)
        for ours, field in ((now.qpos, "qpos"), (now.qvel, "qvel")):
            expected = np.stack([getattr(one.data, field) for one in pairs.theirs])
            np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10)
        pairs.renew(theirs[2])


@pytest.mark.parametrize("name", ROLLED)
def test_left_to_themselves_episodes_begin_alike(name: str):
    """Nothing of the other is set. Contacts magnify the solver's tolerance: later they are other episodes."""
    pairs = Pairs(getattr(envs, name)(), name, jnp.zeros((ROWS, 0)), LIMIT)
    pairs.rolled = False
    generator = np.random.default_rng(3)
    for i in range(25):
        ours, theirs = pairs.step(generator.uniform(pairs.low, pairs.high, (ROWS, len(pairs.high))))
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-4, err_msg=f"step {i}")
        pairs.renew(theirs[2])


def test_the_bodies_that_are_found_by_number():
    ant: Any = gymnasium.make("Ant-v5", disable_env_checker=True).unwrapped
    reacher: Any = gymnasium.make("Reacher-v5", disable_env_checker=True).unwrapped
    assert ant.model.body("torso").id == 1
    assert (reacher.model.body("fingertip").id, reacher.model.body("target").id) == (3, 4)


def forward(one: Theirs) -> float:
    return (one.data.qpos[0] - one.before["qpos"][0]) / one.env.dt


def torso(one: Theirs) -> np.ndarray:
    return (one.data.body("torso").xpos - one.before["torso"])[:2] / one.env.dt


def contact(one: Theirs) -> float:
    return 0.5e-3 * np.sum(np.clip(one.data.cfrc_ext, -1, 1) ** 2)


def centre(one: Theirs) -> np.ndarray:
    masses = one.model.body_mass
    return np.sum(masses[:, None] * one.data.xipos, axis=0)[:2] / np.sum(masses)


def ant_costs(one: Theirs, a: np.ndarray) -> float:
    return 0.5e-2 * np.sum(a**2) + contact(one) - 0.05


def ant_goal(one: Theirs, a: np.ndarray, goal: np.ndarray) -> float:
    x, y, _ = one.data.body("torso").xpos
    return 4.0 - abs(x - goal[0]) - abs(y - goal[1]) - ant_costs(one, a)


def humanoid_heading(one: Theirs, a: np.ndarray, heading: np.ndarray) -> float:
    # As in ProMP's code: a quarter of the displacement, divided by the time step of the physics.
    linear = 0.25 * np.dot(heading, centre(one) - one.before["centre"]) / one.model.opt.timestep
    impact = min(0.5e-6 * np.sum(one.data.cfrc_ext**2), 10.0)
    return linear - 0.1 * np.sum(a**2) - impact + 5.0


REWARDS: dict[str, Any] = {
    "HalfCheetahDir": lambda p, a, task: task * forward(p) - 0.05 * np.sum(a**2),
    "HalfCheetahVel": lambda p, a, task: -abs(forward(p) - task) - 0.05 * np.sum(a**2),
    "Walker2dDir": lambda p, a, task: task * forward(p) + 1 - 1e-3 * np.sum(a**2),
    "Walker2dVel": lambda p, a, task: 3.0 - abs(forward(p) - task) - 1e-3 * np.sum(a**2),
    "SwimmerDir": lambda p, a, task: task * forward(p) - 1e-4 * np.sum(a**2),
    "AntDir": lambda p, a, task: task * torso(p)[0] - ant_costs(p, a),
    "AntVel": lambda p, a, task: 1.0 - abs(torso(p)[0] - task) - ant_costs(p, a),
    "AntHeading": lambda p, a, task: np.dot(task, torso(p)) + 1 - 0.5 * np.sum(a**2) - contact(p),
    "AntGoal": ant_goal,
    "HumanoidDir": humanoid_heading,
}


@pytest.mark.parametrize("name", REWARDS)
def test_a_familys_steps_are_gymnasiums_and_its_rewards_are_its_own(name: str):
    family: AbstractFamily = getattr(envs, name)()
    body = next(body for body in PLAIN if name.startswith(body))
    plain: AbstractFamily = getattr(envs, body)()
    assert family.horizon == (100 if name == "HalfCheetahDir" else 200)
    assert family.time_limit_ends_return
    assert family.action_space == plain.action_space
    assert family.observation_space.shape[0] == plain.observation_space.shape[0] + 2 * (name == "AntGoal")
    tasks = np.asarray(family.sample_tasks(KEY, ROWS))
    options = {"exclude_current_positions_from_observation": False} if name == "AntGoal" else {}
    pairs = Pairs(family, body, tasks, limit=60, **options)
    generator = np.random.default_rng(3)
    for i in range(60):
        actions = generator.uniform(pairs.low, pairs.high, (ROWS, len(pairs.high)))
        ours, theirs = pairs.step(actions)
        rewards = [REWARDS[name](*row) for row in zip(pairs.theirs, actions, tasks, strict=True)]
        same(ours, (theirs[0], rewards, theirs[2]), f"step {i}")
        pairs.renew(theirs[2])
