"""Noise of the meta-gradient in training: each inner loss at the checkpoints of a run of MAML.

    surefoot train half-cheetah-dir/maml-trpo --tasks 20 --iterations 100 --out RUN
    python benchmarks/meta_gradient_noise.py RUN --out OUT

At every checkpoint several meta-batches are drawn, and from each of them a gradient is computed with every
inner loss. Their relative standard deviation is √(tr C)/‖g‖, with C their covariance and g their mean.
Rothfuss et al. (2019: ProMP) compare LVC, which is `surrogate` here, with DiCE by such a measure.
OUT/noise.json has all figures, OUT/noise.png the picture.
"""

import json
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.axes import Axes

from surefoot.algorithms import MAML, LearnerState, Setting
from surefoot.algorithms.adaptation import adapt_to_tasks
from surefoot.experiment import Run, load
from surefoot.experiment.files import write_atomically
from surefoot.policies import AbstractPolicy
from surefoot.report.comparing import looks
from surefoot.report.learning import picture
from surefoot.samplers.host_runner import disable_async_dispatch
from surefoot.theory.objectives import loss_and_gradient
from surefoot.types import Key, MetaBatch

# As every command of surefoot does, before JAX computes.
disable_async_dispatch()

LOSSES: dict[str, dict[str, Any]] = {
    "first order": {"inner_loss": "surrogate", "order": "first"},
    "reinforce": {"inner_loss": "reinforce"},
    "surrogate (LVC)": {"inner_loss": "surrogate"},
    "dice, λ = 0.8": {"inner_loss": "dice", "dice_lambda": 0.8},
    "dice with TMAML's control variate": {"inner_loss": "dice"},
    "dice": {"inner_loss": "dice", "control_variate": False},
}
"""Options of MAML for each estimate."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    run: Annotated[Path, tyro.conf.Positional]
    """The folder of a run of MAML."""
    out: Path
    """The folder for figures and picture."""
    tasks: int = 20
    """Number of tasks in a meta-batch."""
    episodes: int = 40
    """Number of episodes of each task and phase."""
    batches: int = 10
    """Number of meta-batches at each checkpoint."""
    every: int = 1
    """1 takes every checkpoint, 2 every second one, and so on."""
    seed: int = 0
    """Random seed of the meta-batches."""


def main(options: Options) -> None:
    """Prints a line for each checkpoint, and leaves figures and picture."""
    folder, rows = load(options.run).folder, []
    for file in folder.checkpoints()[:: options.every]:
        run = load(file)
        found = noise(run, options)
        rows.append({"iteration": run.iteration, "noise": found})
        shown = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        print(f"after {run.iteration} iterations: {shown}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "noise.json", json.dumps(finite(rows), indent=2).encode() + b"\n")
    write_atomically(options.out / "noise.png", draw(rows))


def finite(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with None, JSON's null, in place of infinity."""
    return [
        {**row, "noise": {k: v if np.isfinite(v) else None for k, v in row["noise"].items()}} for row in rows
    ]


def noise(run: Run, options: Options) -> dict[str, float]:
    """The relative standard deviation of the meta-gradient with each inner loss, all from the same
    meta-batches."""
    maml = run.config.algorithm
    if not isinstance(maml, MAML):
        raise SystemExit(f"{run.folder.path} is no run of MAML.")
    maml = replace(maml, order="second", dice_lambda=1.0, control_variate=True)  # whatever the run has
    key = jax.random.fold_in(jax.random.key(options.seed), run.iteration)
    gradients: dict[str, list[np.ndarray]] = {name: [] for name in LOSSES}
    with closing(replace(run.config, episodes=options.episodes).setting()) as setting:
        for batch_key in jax.random.split(key, options.batches):
            batch = meta_batch(maml, setting, run.state.learner, batch_key, options.tasks)
            for name, loss in LOSSES.items():
                gradients[name].append(
                    np.asarray(meta_gradient(replace(maml, **loss), run.state.learner.policy, batch))
                )
    return {name: relative_deviation(np.stack(each)) for name, each in gradients.items()}


def meta_batch(maml: MAML, setting: Setting, learner: LearnerState, key: Key, tasks: int) -> MetaBatch:
    """A meta-batch as an iteration of training draws it. The first step is the same with all inner losses,
    and `dice` needs the most data of the batches."""
    task_key, rollout_key = jax.random.split(key)
    adaptation = adapt_to_tasks(
        setting.sampler,
        replace(maml, **LOSSES["dice"]).adapter(setting.estimator, learner),
        learner.policy,
        setting.sampler.env.sample_tasks(task_key, tasks),
        rollout_key,
        maml.inner_steps,
    )
    return MetaBatch(adaptation.batches[:-1], adaptation.batches[-1])


@eqx.filter_jit
def meta_gradient(maml: MAML, policy: AbstractPolicy, batch: MetaBatch) -> jax.Array:
    """The gradient of MAML's loss with the options of `maml`, as one vector."""
    _, gradient = loss_and_gradient(maml.objective({}), policy, batch)
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(gradient)])


def relative_deviation(gradients: np.ndarray) -> float:
    """√(tr C)/‖g‖ of estimates `[batch parameters]` of g. ‖mean‖² exceeds ‖g‖² by tr C/N on average, which is
    taken from it; infinite where no more is left."""
    variance = gradients.var(axis=0, ddof=1).sum()
    squared = np.sum(gradients.mean(axis=0) ** 2) - variance / len(gradients)
    return float(np.sqrt(variance / squared)) if squared > 0.0 else np.inf


def draw(rows: list[dict[str, Any]]) -> bytes:
    """A PNG: the relative standard deviation over training, a line for each inner loss."""

    def panel(axes: Axes) -> None:
        iterations = [row["iteration"] for row in rows]
        for name, look in zip(LOSSES, looks(len(LOSSES)), strict=True):
            axes.plot(iterations, [row["noise"][name] for row in rows], marker="o", label=name, **look)
        axes.set(xlabel="iterations of training", ylabel="standard deviation, relative to the gradient")
        axes.set_ylim(bottom=0.0)
        axes.legend(frameon=False, fontsize=8)

    return picture("Noise of the meta-gradient with each inner loss", panel, panels=1)


if __name__ == "__main__":
    main(tyro.cli(Options))
