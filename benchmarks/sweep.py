"""A sweep in one program beside the same number of seeds: seconds of an iteration for each run.

python benchmarks/sweep.py                    # 64 learning rates × 4 seeds of cartpole/ppo beside 16 seeds
python benchmarks/sweep.py --rates 8 --seeds 2 --beside 16

Both programs take turns; the medians and their ratio are printed. Compilation is not counted.
"""

import time
from dataclasses import dataclass, replace
from statistics import median

import jax
import numpy as np
import tyro

from surefoot.experiment import Config, Learner, preset
from surefoot.experiment.many import initial_states, lower_many, seeds_of
from surefoot.experiment.presets import with_options
from surefoot.samplers.host_runner import disable_async_dispatch

# As every command of surefoot does, before JAX computes.
disable_async_dispatch()


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    preset: str = "cartpole/ppo"
    rates: int = 64
    """Number of learning rates, from 1e-5 to 1e-2."""
    seeds: int = 4
    """Number of seeds of each learning rate."""
    beside: int = 16
    """Number of seeds in the other program."""
    rounds: int = 5
    """Number of timed iterations of each."""


class Many:
    """Runs that are trained in one program."""

    def __init__(self, configs: list[Config], rates: np.ndarray | None) -> None:
        numbers = {} if rates is None else {"rule.lr": jax.numpy.asarray(rates, jax.numpy.float32)}
        self.count = len(configs)
        self.states = initial_states(configs, numbers)
        began = time.perf_counter()
        self._step = lower_many(Learner(configs[0]), self.states, numbers)()
        self.compilation = time.perf_counter() - began

    def seconds(self) -> float:
        """Seconds of an iteration for each run."""
        began = time.perf_counter()
        self.states, _ = self._step(self.states)
        jax.block_until_ready(self.states)
        return (time.perf_counter() - began) / self.count


def main(options: Options) -> None:
    """Prints both medians and their ratio."""
    config = replace(preset(options.preset), iterations=10**6)
    rates = np.repeat(np.logspace(-5, -2, options.rates), options.seeds)
    swept = [
        with_options(replace(config, seed=i % options.seeds), {"rule.lr": float(lr)})
        for i, lr in enumerate(rates)
    ]
    programs = {
        "sweep": Many(swept, rates),
        "seeds": Many(list(seeds_of(config, options.beside).values()), None),
    }
    for program in programs.values():
        program.seconds()
    taken = {name: [] for name in programs}
    for _ in range(options.rounds):
        for name, program in programs.items():
            taken[name].append(program.seconds())
    for name, program in programs.items():
        print(
            f"{name}: {program.count} runs in one program, compiled in {program.compilation:.1f} s, "
            f"{1e3 * median(taken[name]):.2f} ms for an iteration of a run"
        )
    print(f"sweep / seeds: {median(taken['sweep']) / median(taken['seeds']):.2f}")


if __name__ == "__main__":
    main(tyro.cli(Options))
