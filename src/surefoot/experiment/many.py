"""Training many runs into one folder: of several seeds, and of the settings of a sweep.

OUT/seed000/, OUT/seed001/            the run folders of several seeds
OUT/rule.lr=1e-3/seed000/             those of a sweep, in a folder for each setting

Each of them can be evaluated, loaded and resumed. Runs that differ in seeds and numbers alone are trained in
one program, where they share every call; others one after another, as those whose environments cannot be
compiled. A run's result does not depend on how many others there are, but for rounding: a program for many is
not compiled to the same instructions as a program for one.
"""

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt

from surefoot.experiment.cluster import train_on_ray
from surefoot.experiment.config import Config
from surefoot.experiment.folder import make_new, must_be_new, run_folders
from surefoot.experiment.learner import Learner, TrainingState, compiled_initial_state, initial_state
from surefoot.experiment.loop import stack, take
from surefoot.experiment.memory import allow_files, check_memory
from surefoot.experiment.own_env import check_own_env
from surefoot.experiment.presets import with_options
from surefoot.experiment.run import Run, load, train_runs
from surefoot.experiment.serialise import check_round_trip, flat_options
from surefoot.experiment.training import ManyOutcome, new_run, to_resume
from surefoot.options import UserError, check
from surefoot.rules.base import Metrics

Place = Literal["here", "ray"]
Numbers = dict[str, Float[Array, "*runs"]]
"""Values of numeric options, by their names on the command line."""


def train_seeds(
    config: Config, seeds: int, out: str | Path, *, quiet: bool = True, on: Place = "here"
) -> ManyOutcome:
    """Trains `seeds` runs with the seeds `config.seed`, `config.seed` + 1, …, into new folders under `out`.
    Raises `UserError` as `train_many` does."""
    return train_many(seeds_of(config, seeds), out, quiet=quiet, on=on)


def seeds_of(config: Config, seeds: int) -> dict[str, Config]:
    """The configurations of `seeds` runs, by the names of their folders. Raises `UserError`."""
    check(seeds >= 1, "seeds", seeds, "1 or more")
    configs = [replace(config, seed=config.seed + i) for i in range(seeds)]
    return {f"seed{one.seed:03d}": one for one in configs}


def train_many(
    configs: Mapping[str, Config], out: str | Path, *, quiet: bool = True, on: Place = "here"
) -> ManyOutcome:
    """Trains a run of each configuration, into new folders of these names under `out`: in this process, or
    `on` a Ray cluster whose machines reach `out`.

    A run that fails stops; the others go on. Raises `UserError` as `train` does, before anything is written.
    """
    out = Path(out)
    must_be_new(out)
    for config in configs.values():
        check_round_trip(config)
    for config in {repr(config.env): config for config in configs.values()}.values():
        check_own_env(config)
    with ExitStack() as learners:
        programs = _plan(list(configs.values()), None, learners, alone=on == "ray")
        make_new(out)
        states = {place: state for program in programs for place, state in program.states()}
        runs = [new_run(config, out / name, states[i]) for i, (name, config) in enumerate(configs.items())]
        return train_on_ray(runs, quiet) if on == "ray" else _train(programs, runs, quiet)


def resume_many(
    out: str | Path, *, iterations: int | None = None, quiet: bool = True, on: Place = "here"
) -> ManyOutcome:
    """Goes on with the runs under `out`, all together, to the same end as if they had never stopped. Runs
    that shared a program should go on in one: another is not compiled to the same instructions.

    A run that had failed fails again, at once. Raises `UserError` as `resume` does.
    """
    runs = [load(folder) for folder in run_folders(Path(out))]
    if not runs:
        raise UserError(f"There are no runs of many seeds at {out}.")
    runs = to_resume(runs, Path(out), iterations)
    return _go_on(runs, quiet, on)


def go_on_many(
    configs: Mapping[str, Config],
    out: str | Path,
    *,
    quiet: bool = True,
    on: Place = "here",
    together: bool = False,
) -> ManyOutcome:
    """Trains a run of each configuration to its end, in folders of these names under `out`. Those that are
    there already go on, and complete ones are returned as they are.

    One run after another, unless `together` lets those share a program that can. Raises `UserError` as
    `train_many` does, and if a run that is there has other options.
    """
    out = Path(out)
    runs = [_found_or_new(config, out / name) for name, config in configs.items()]
    todo = [run for run in runs if run.iteration < run.config.iterations]
    if not todo:
        return ManyOutcome(runs, [], None)
    outcome = _go_on(todo, quiet, on, alone=not together)
    trained = {run.folder: run for run in outcome.runs}
    return replace(outcome, runs=[trained.get(run.folder, run) for run in runs])


def _go_on(runs: list[Run], quiet: bool, on: Place, *, alone: bool = False) -> ManyOutcome:
    if on == "ray":
        return train_on_ray(runs, quiet)
    with ExitStack() as learners:
        programs = _plan([run.config for run in runs], [run.state for run in runs], learners, alone=alone)
        return _train(programs, runs, quiet)


def _found_or_new(config: Config, path: Path) -> Run:
    """The run at `path`, which is made if there is none. It is moved there when it is whole."""
    if not path.exists():
        check_round_trip(config)
        beside = path.with_name(f".{path.name}.new")
        shutil.rmtree(beside, ignore_errors=True)  # a killed process may have left it
        new_run(config, beside, compiled_initial_state(config))
        beside.rename(path)
    run = load(path)
    if run.config != config:
        raise UserError(
            f"{path} is a run with other options, and cannot be gone on with; choose another --out."
        )
    return run


@dataclass(frozen=True)
class _Program:
    """The training of some of the runs: side by side, or one after another if there is no program for all."""

    places: list[int]
    """The runs, by their places among all."""
    before: TrainingState
    lowered: Callable[[], Any] | None

    def states(self) -> Iterator[tuple[int, TrainingState]]:
        """The place of each run, and its state."""
        return ((place, take(self.before, i, many=True)) for i, place in enumerate(self.places))

    def parts(self) -> list[tuple[list[int], Callable[[], Any] | None]]:
        """The places of the runs that are trained together, with their program; of one run with None."""
        return [(self.places, self.lowered)] if self.lowered else [([place], None) for place in self.places]


def _plan(
    configs: list[Config], states: list[TrainingState] | None, learners: ExitStack, *, alone: bool = False
) -> list[_Program]:
    """The programs that train the runs: one for all that differ in seeds and numbers alone, or one for each
    setting where a number decides what is computed; `alone` none for several. Whatever does not fit together
    is found here."""
    programs = []
    for places in _alike(configs, in_numbers=alone):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "A JAX array is being set as static", UserWarning)
                programs.append(_program(places, configs, states, learners, alone))
        except Exception:
            # A number may be compared, hashed or shown where it is used: anything may be raised.
            settings = _alike([configs[i] for i in places], in_numbers=True)
            if len(settings) == 1:
                raise
            for part in settings:
                programs.append(_program([places[i] for i in part], configs, states, learners, alone))
    return programs


def _program(
    places: list[int],
    configs: list[Config],
    states: list[TrainingState] | None,
    learners: ExitStack,
    alone: bool,
) -> _Program:
    chosen = [configs[i] for i in places]
    numbers = _numbers(chosen)
    learner = learners.enter_context(closing(Learner(chosen[0])))
    together = learner.setting.sampler.traceable and not alone
    check_memory(chosen[0], len(chosen) if together else 1)
    allow_files(len(chosen) if together else 1)
    before = stack(states[i] for i in places) if states else initial_states(chosen, numbers)
    if together:
        return _Program(places, before, lower_many(learner, before, numbers))
    learner.lower(take(before, 0, many=True))
    return _Program(places, before, None)


def _alike(configs: Sequence[Config], *, in_numbers: bool = False) -> list[list[int]]:
    """The places of configurations that differ in seeds alone, or in numbers beside unless `in_numbers`; but
    not in numbers of the policy, which are part of its structure."""
    groups: dict[str, list[int]] = {}
    for i, config in enumerate(configs):
        options = {**flat_options(config), "seed": 0}
        if not in_numbers:
            options = {
                name: float if isinstance(value, float) and not name.startswith("policy.") else value
                for name, value in options.items()
            }
        groups.setdefault(repr(options), []).append(i)
    return list(groups.values())


def _numbers(configs: Sequence[Config]) -> Numbers:
    """The numeric options in which configurations that are alike differ."""
    options = [{**flat_options(config), "seed": 0} for config in configs]
    columns = {name: [one[name] for one in options] for name in options[0]}
    return {name: jnp.asarray(x) for name, x in columns.items() if len(set(map(repr, x))) > 1}


def initial_states(configs: Sequence[Config], numbers: Numbers) -> TrainingState:
    """The states before the first iteration, with a leading axis of runs, which differ in their seeds and in
    these numbers."""
    seeds = jnp.asarray(np.array([config.seed for config in configs], np.uint32))

    def state(one: tuple[UInt[Array, ""], Numbers]) -> TrainingState:
        seed, values = one
        return initial_state(with_options(configs[0], values), jax.random.key(seed))

    # One after another: the decompositions behind orthogonal weights, in a vmap over some hundreds of runs,
    # wait for each other's threads for ever.
    return eqx.filter_jit(lambda every: jax.lax.map(state, every))((seeds, numbers))


def lower_many(learner: Learner, states: TrainingState, numbers: Numbers) -> Callable[[], Any]:
    """Traces one iteration of every run, and returns what compiles it. A run that is at its end, or whose
    result is not finite, keeps its state."""

    def advance(state: TrainingState, values: Numbers) -> tuple[TrainingState, Metrics]:
        one = Learner(learner.config, options=values) if values else learner
        following, metrics = one.step(state)
        moves = (metrics["finite"] > 0) & (state.iteration < learner.config.iterations)
        return jax.tree.map(lambda new, old: jnp.where(moves, new, old), following, state), metrics

    compilable: Any = eqx.filter_jit(eqx.filter_vmap(advance))
    lowered = compilable.lower(states, numbers)

    def compiled() -> Any:
        step = lowered.compile()
        return lambda states: step(states, numbers)

    return compiled


def _train(programs: list[_Program], runs: list[Run], quiet: bool) -> ManyOutcome:
    """Trains the runs to their ends, program after program."""
    done, failed = list(runs), []
    for places, lowered in (part for program in programs for part in program.parts()):
        chosen, many = [runs[i] for i in places], lowered is not None
        with ExitStack() as learners:
            if lowered is None:  # with workers of its own, which may keep the environments of the run before
                (run,) = chosen
                if run.iteration == run.config.iterations:
                    continue
                lowered = learners.enter_context(closing(Learner(run.config))).lower(run.state)
            outcome = train_runs(chosen, lowered, many=many, quiet=quiet)
        for row, i in enumerate(places):
            done[i] = replace(runs[i], state=take(outcome.state, row, many))
            failed += [done[i]] * outcome.members[row].failed
        if outcome.interrupted:
            return ManyOutcome(done, failed, outcome.interrupted)
    return ManyOutcome(done, failed, None)
