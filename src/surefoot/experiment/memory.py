"""The memory and the open files that an experiment needs at least, so that numbers beyond the machine are
refused at once."""

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from surefoot.envs.base import time_limit_field
from surefoot.experiment.config import Config, Evaluation
from surefoot.options import UserError
from surefoot.policies import initial_memory
from surefoot.samplers.base import empty_rollout

try:
    import resource
except ImportError:  # no limits on this system
    resource = None

_GIB = 2**30


def check_memory(config: Config, seeds: int = 1) -> None:
    """Raises `UserError`, naming the options to lower, if training cannot fit into this machine: if its
    memory is less than the policy, the rollouts of one iteration, the policy's own memory, a fit of the
    baseline or the rollouts of one task's evaluation need."""
    policy = jax.eval_shape(config.build_policy, jax.random.key(0))
    _require(_bytes(policy), "The policy's parameters", ["--policy.hidden"])
    many, tasks = seeds if config.env.is_traceable else 1, getattr(config.algorithm, "tasks", 1)
    if config.streams:
        rows, options = config.streams, ["--streams", "--steps"]
        of_task = steps = config.streams * config.steps
    else:
        batches = getattr(config.algorithm, "inner_steps", 0) + 1
        rows = tasks * config.episodes
        of_task = config.episodes * config.env.horizon
        steps = batches * tasks * of_task
        options = ["--episodes", *["--tasks"] * (tasks > 1), *_horizon_options(config)]
    options += ["--seeds"] * (many > 1)
    _require(steps * many * _step(config), "The rollouts of one iteration", options)
    memories = rows * many * _bytes(jax.eval_shape(initial_memory, policy))
    _require(memories, "The policy's memory of every episode", options)
    form = jax.eval_shape(lambda key: config.env.sample_tasks(key, tasks), jax.random.key(0))
    _require(
        _bytes(form) * many,
        "The parameters of the tasks",
        ["the options of --env that say how large a task is"],
    )
    fit = config.estimation.baseline.memory_to_fit(config.env.observation_space, of_task)
    _require(fit, "A fit of the baseline", options, ", or use --estimation.baseline value-network")
    check_evaluation_memory(config, config.evaluation, "--evaluation.")


def check_evaluation_memory(config: Config, options: Evaluation, prefix: str = "--") -> None:
    """Raises `UserError` if one task's evaluation, or all returns, cannot fit into this machine. `prefix` is
    that of the options' names."""
    tasks, episodes = f"{prefix}tasks", f"{prefix}episodes"
    one = options.episodes * (config.env.horizon or options.horizon) * _step(config)
    length = _horizon_options(config) if config.env.horizon else [f"{prefix}horizon"]
    _require(one, "The evaluation of one task", [episodes, *length])
    returns = 4 * options.tasks * options.episodes * (options.steps + 1)
    _require(returns, "The returns of the evaluation", [tasks, episodes])


def allow_files(runs: int) -> None:
    """Raises this process's limit of open files to what runs that are trained together need. Raises
    `UserError` if the system forbids that."""
    if resource is None:
        return
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 5 * runs + 200  # a lock, metrics, TensorBoard's file and the pipe of its thread
    if needed <= now:
        return
    if most != resource.RLIM_INFINITY and needed > most:
        raise UserError(
            f"{runs:,} runs hold some {needed:,} files open, and this system allows a process {most:,}. "
            "Train fewer at a time, or raise the limit: ulimit -n"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))


def machine_memory() -> int:
    """The bytes of memory that this process may have: the machine's, or less where its group is limited."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else []
    with suppress(OSError, ValueError):  # no such file, or no number in it
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits, default=2**62)


def _require(needed: int, what: str, options: list[str], instead: str = "") -> None:
    available = machine_memory()
    if needed > available:
        raise UserError(
            f"{what} would need at least {needed / _GIB:,.1f} GiB of memory, and there are "
            f"{available / _GIB:,.1f}. Lower {' or '.join(options)}{instead}."
        )


def _step(config: Config) -> int:
    """The bytes of one step of one episode in a rollout."""
    return _bytes(jax.eval_shape(lambda: empty_rollout(config.env, (1, 1), finals=0)))


def _horizon_options(config: Config) -> list[str]:
    """The option that says how many steps an episode has, if there is one."""
    name = time_limit_field(config.env)
    return [f"--env.{name.replace('_', '-')}"] if name else []


def _bytes(tree: Any) -> int:
    arrays = [x for x in jax.tree.leaves(tree) if hasattr(x, "shape") and hasattr(x, "dtype")]
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays)
