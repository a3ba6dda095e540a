"""Training on Breakout-MinAtar, side by side with rejax's PPO at equal settings: steps a second.

    python -m venv PEER && PEER/bin/pip install rejax gymnax==0.0.9
    python benchmarks/minatar.py --peer PEER/bin/python
    python benchmarks/minatar.py --iterations 2 --repeats 2          # surefoot alone, to try it

rejax 0.1.3 does not run with the gymnax that surefoot needs, so that it lives in an environment of its own.
Both sides flatten the image and have two networks of two layers; they compile first, and then train in turns.
"""

import json
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from harness import machine, print_table, write_json

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Problem:
    """What both sides are told."""

    env: str = "Breakout-MinAtar"
    streams: int = 64
    """Environments side by side."""
    steps: int = 128
    """Of each, for a batch."""
    hidden: tuple[int, ...] = (64, 64)
    """Of the policy and of the value function, with the activation function SiLU."""
    epochs: int = 4
    minibatches: int = 8
    lr: float = 5e-4
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_bonus: float = 0.01
    max_gradient_norm: float = 0.5
    """rejax clips each element of the gradient to this."""
    iterations: int = 20
    """In one timing."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    peer: Path | None = None
    """The Python of an environment that has rejax; without it surefoot is measured alone."""
    iterations: int = 20
    """Number of iterations in one timing."""
    repeats: int = 7
    """Number of timings."""
    json: Path | None = None
    """A file for the figures."""


class Side:
    """A process that trains for some iterations whenever it is told to, and says how long that took."""

    def __init__(self, python: Path, program: str, problem: Problem) -> None:
        command = [python, "-W", "ignore", HERE / program, json.dumps(asdict(problem))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.compilation = self._seconds()

    def train(self) -> float:
        """Seconds of training."""
        assert self._process.stdin is not None
        self._process.stdin.write("train\n")
        self._process.stdin.flush()
        return self._seconds()

    def _seconds(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} failed.")
        return float(line)

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()


def main(options: Options) -> None:
    """Trains in turns, and prints medians and their ratio."""
    problem = Problem(iterations=options.iterations)
    programs = {"surefoot": (Path(sys.executable), "minatar_surefoot.py")}
    if options.peer is not None:
        programs["rejax"] = (options.peer, "minatar_rejax.py")
    with ExitStack() as stack:
        sides = {name: stack.enter_context(Side(*each, problem)) for name, each in programs.items()}
        rounds = [{name: side.train() for name, side in sides.items()} for _ in range(options.repeats)]
        compilation = {name: side.compilation for name, side in sides.items()}
    batch = problem.streams * problem.steps * problem.iterations
    figures = {
        name: {
            "steps_per_second": batch / statistics.median(one[name] for one in rounds),
            "compilation_seconds": compilation[name],
            "ratio": statistics.median(one[name] / one["surefoot"] for one in rounds),
        }
        for name in programs
    }
    rows = [
        [name, f"{x['steps_per_second']:,.0f}", f"{x['ratio']:.2f}", f"{x['compilation_seconds']:.1f}"]
        for name, x in figures.items()
    ]
    columns = ("", "steps a second", "× surefoot's time", "compilation, s")
    print_table(f"PPO on {problem.env}, {problem.streams} × {problem.steps} steps a batch", columns, rows)
    write_json(options.json, {"machine": machine(), "problem": asdict(problem), "sides": figures})


if __name__ == "__main__":
    main(tyro.cli(Options))
