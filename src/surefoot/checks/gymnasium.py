"""The checks of Gymnasium environments: Gymnasium's own first, then what training needs besides."""

import importlib
import math
import re
import warnings
from typing import Any

import jax
import numpy as np

from surefoot.checks import common
from surefoot.checks.problem import Problem, Problems, error, warning
from surefoot.envs import Gymnasium
from surefoot.envs.base import check_time_limit
from surefoot.envs.gymnasium_simulator import close_env
from surefoot.envs.gymnasium_spaces import flattened_parts
from surefoot.loading import FAILURES, told
from surefoot.options import UserError

_ROWS, _STEPS = 2, 50


def check_gymnasium(env: Gymnasium) -> list[Problem]:
    """The problems that training would have with a Gymnasium environment; an empty list if it is sound.

    Gymnasium's checker is run on it, with a task where it has tasks; then two episodes side by side take some
    steps with random actions, twice from the same seeds.
    """
    try:
        _ = env.observation_space, env.action_space, env.sample_tasks(jax.random.key(0), _ROWS)
        simulator = env.simulator(1)
    except UserError as refused:
        return [_refusal(refused)]
    try:
        return [
            *_limit_problems(env),
            *_flattening_problems(simulator.make),
            *_peer_problems(env, simulator.make),
            *_episode_problems(env, simulator),
        ]
    finally:
        simulator.close()


def _refusal(refused: UserError) -> Problem:
    return error(
        str(refused), "Training refuses it.", "Mend that, or wrap the environment in one without it."
    )


def _limit_problems(env: Gymnasium) -> Problems:
    try:
        check_time_limit(env)
    except UserError as refused:
        yield warning(str(refused), "The check takes 50 steps instead.", "Give the option when you train.")


def _flattening_problems(make: Any) -> Problems:
    """Arrays whose axes mean something, of which policies see a vector."""
    made = make()
    try:
        for name, shape in flattened_parts(made.observation_space, "the observation"):
            yield warning(
                f"{name}, an array of shape {shape}, is flattened to a vector of {math.prod(shape)} numbers.",
                "Policies see vectors, and images [height, width, channels] of 7 pixels or more a side.",
                "If it is an image, give it three axes; bytes may have two.",
            )
    finally:
        close_env(type(made).__name__, made)


def _peer_problems(env: Gymnasium, make: Any) -> Problems:
    """The warnings of Gymnasium's own checker, and its refusal."""
    made, checker = make(), importlib.import_module("gymnasium.utils.env_checker")
    task = jax.tree.map(lambda x: np.asarray(x)[0], env.sample_tasks(jax.random.key(0), 1))
    if jax.tree.leaves(task)[0].size:
        made = _with_task(made, task)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            checker.check_env(made, skip_render_check=True)
        except FAILURES as failed:
            why = "Gymnasium's own checker refuses it, and other libraries may."
            yield warning(f"{told(failed)}.", why, "See gymnasium.farama.org/api/env for what it must do.")
        finally:
            close_env(env.name, made)
    for one in said:
        text = re.sub(r"\x1b\[\d+m|WARN: ", "", str(one.message)).strip()
        if "from the unwrapped version" not in text:
            yield warning(text, "Gymnasium's own checker says so.", "It does no harm to training by itself.")


def _with_task(made: Any, task: Any) -> Any:
    """The environment, which is given the task at every reset."""
    gymnasium = importlib.import_module("gymnasium")

    class WithTask(gymnasium.Wrapper):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return super().reset(seed=seed, options={**(options or {}), "task": task})

    return WithTask(made)


def _episode_problems(env: Gymnasium, simulator: Any) -> Problems:
    """The problems of some steps, taken as a sampler takes them."""
    keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(1), _ROWS)))
    actions = np.asarray(common.random_actions(env.action_space, jax.random.key(2), (_STEPS, _ROWS)))
    rows = np.arange(_ROWS)
    seen = []
    try:
        tasks = jax.tree.map(np.asarray, env.sample_tasks(jax.random.key(0), _ROWS))
        for _ in range(2):
            observed, times = [simulator.begin(keys, tasks)], np.zeros(_ROWS, int)
            for i in range(_STEPS):
                outcome = simulator.step(rows, actions[i])
                observed.append(outcome)
                times += 1
                ended = outcome.terminated | outcome.truncated | (times == env.horizon)
                again = np.flatnonzero(ended)
                if len(again):
                    times[again] = 0
                    simulator.renew(again, keys[again])
            seen.append(observed)
    except UserError as refused:
        yield _refusal(refused)
        return
    step = next((i for i, pair in enumerate(zip(*seen, strict=True)) if not common.same(*pair)), None)
    if step is not None:
        yield error(
            f"The same seeds and actions give other observations, rewards or ends from step {step} on.",
            "Runs could not be reproduced, and a task that a lost worker sampled could not be sampled again.",
            "Draw everything random from `self.np_random`, which `super().reset(seed=seed)` sets.",
        )
