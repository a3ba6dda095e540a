"""Iterations of MAML-TRPO in surefoot, and a stopwatch on the functions that they are made of."""

import multiprocessing
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

import jax
from iteration_problem import PHYSICS, UNDER_WAY, WHOLE, Case

from surefoot.experiment import Config
from surefoot.experiment.learner import Learner, compiled_initial_state
from surefoot.experiment.presets import preset
from surefoot.samplers import InProcess, Processes

PARTS = {
    "mujoco.rollout.Rollout.rollout": PHYSICS,
    "surefoot.envs.mujoco.physics.DataPhysics.advance": PHYSICS,
    "surefoot.envs.mujoco.simulator.MujocoSimulator.step": "observations, rewards",
    "surefoot.envs.mujoco.simulator.MujocoSimulator.begin": "resets",
    "surefoot.samplers.host_rollouts.ActionSampler.__init__": "policy evaluation",
    "surefoot.samplers.host_rollouts.ActionSampler.act": "policy evaluation",
    "surefoot.samplers.host_rollouts.Record.__init__": "recording",
    "surefoot.samplers.host_rollouts.Record.add": "recording",
    "surefoot.samplers.host_rollouts.Record.rollout": "recording",
    "surefoot.samplers.batched.BatchedSampler.sample": "the sampler's own",
    "surefoot.samplers.remote.AbstractRemoteSampler.submit": "submitting",
    "surefoot.algorithms.adaptation.wait": "waiting",
    "surefoot.algorithms.adaptation._batch_all": "baseline, advantages",
    "surefoot.algorithms.adaptation._batch_one": "baseline, advantages",
    "surefoot.algorithms.adaptation.begin_all": "inner step",
    "surefoot.algorithms.adaptation._acting_all": "inner step",
    "surefoot.algorithms.adaptation._improve_all": "inner step",
    "surefoot.algorithms.adaptation._improve_one": "inner step",
    "surefoot.algorithms.adaptation.stack": "stacking",
    "surefoot.algorithms.gradient_meta._learn": "meta-step",
}
"""The part that a function's time counts as, less that of other such functions that it calls. What remains of
an iteration is "the rest"."""


def configuration(case: Case) -> Config:
    """The preset, of the case's size, sampled its way."""
    base = preset(case.preset)
    algorithm: Any = base.algorithm
    env: Any = base.env
    return replace(
        base,
        env=replace(env, horizon=case.steps),
        algorithm=replace(algorithm, tasks=case.tasks),
        episodes=case.episodes,
        sampler=Processes(workers=case.workers) if case.workers else InProcess(threads=case.threads),
    )


class Side:
    """The first iteration, again and again: every round does the same work."""

    def __init__(self, case: Case) -> None:
        multiprocessing.current_process().daemon = False  # a daemon may have no processes of its own
        config = configuration(case)
        self._learner = Learner(config)
        self._state = jax.block_until_ready(compiled_initial_state(config))
        self._iterate = self._learner.compile(self._state)

    def run(self) -> None:
        """From tasks to the improved policy."""
        jax.block_until_ready(self._iterate(self._state))

    def parts(self) -> dict[str, float]:
        """The same, and the seconds of each part, all threads together, of the whole, and of the time in
        which physics was under way. Each is waited for, so the whole can take longer."""
        stopwatch = Stopwatch()
        with ExitStack() as stack:
            for target, part in PARTS.items():
                stack.enter_context(timed(stopwatch, target, part))
            with stopwatch.span("the rest"):
                self.run()
        return {**stopwatch.seconds, WHOLE: stopwatch.whole, UNDER_WAY: covered(stopwatch.physics)}

    def close(self) -> None:
        """Ends processes and threads."""
        self._learner.close()


class Stopwatch:
    """Seconds of each part, without those of the parts that it encloses."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.physics: list[tuple[float, float]] = []
        """Beginnings and ends of that part, in any thread."""
        self.whole = 0.0
        """Of the outermost spans in the thread that made the stopwatch."""
        self._maker = threading.get_ident()
        self._local = threading.local()

    @contextmanager
    def span(self, part: str) -> Iterator[None]:
        enclosed = vars(self._local).setdefault("enclosed", [])
        start = time.perf_counter()
        enclosed.append(0.0)
        try:
            yield
        finally:
            end = time.perf_counter()
            elapsed = end - start
            self.seconds[part] += elapsed - enclosed.pop()
            if part == PHYSICS:
                self.physics.append((start, end))
            if enclosed:
                enclosed[-1] += elapsed
            elif threading.get_ident() == self._maker:
                self.whole += elapsed


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of their union."""
    length, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        length += max(0.0, end - max(start, until))
        until = max(until, end)
    return length


@contextmanager
def timed(stopwatch: Stopwatch, target: str, part: str) -> Iterator[None]:
    """Counts the calls of a function, wherever they come from, as `part`. `target` is the name by which its
    callers find it."""
    owner, _, name = target.rpartition(".")
    original: Callable[..., Any] = getattr(resolve_name(owner), name)

    def watched(*arguments: Any, **options: Any) -> Any:
        with stopwatch.span(part):
            return jax.block_until_ready(original(*arguments, **options))

    with patch(target, watched):
        yield
