"""The last evaluation and the picture, made when training ends."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.experiment import EvaluationResult, Run
from surefoot.experiment.evaluation import confidence_interval, evaluate_both
from surefoot.experiment.files import write_atomically
from surefoot.experiment.metrics import read_metrics
from surefoot.report.adaptation import draw_adaptation
from surefoot.report.learning import draw_learning, draw_seeds


def finish(run: Run) -> tuple[EvaluationResult, EvaluationResult]:
    """Evaluates a run as its configuration says and leaves `evaluation.json` and a picture in its folder.

    Returns the result by sampled actions, which the picture shows, and the one by the policy's mode. The file
    has both, the second under `deterministic`.
    """
    sampled, mode = evaluate_both(run.config, run.state.learner, run.iteration)
    history = read_metrics(run.folder.metrics)
    if len(sampled.returns) > 1:
        picture = draw_adaptation(sampled, run.config.env, history)
    else:
        picture = draw_learning(sampled, history)
    write_atomically(run.picture, picture)
    _write_json(run.folder.evaluation, {**sampled.summary(), "deterministic": mode.summary()["returns"]})
    return sampled, mode


def finish_seeds(runs: list[Run], out: Path) -> dict[str, Any]:
    """Finishes every run, leaves `seeds.json` and `seeds.png` beside them, and returns what the first holds:
    the mean return of each seed's policy after training (and after adaptation, where it adapts), and over
    seeds their mean, its 95% interval and their standard deviation."""
    means = np.array([sampled.returns[-1].mean() for sampled, _ in map(finish, runs)])
    config = runs[0].config
    summary = {
        "preset": config.preset,
        "iterations": [run.iteration for run in runs],
        "seeds": [run.config.seed for run in runs],
        "returns": means.tolist(),
        "mean": float(np.mean(means)),
        "ci95": confidence_interval(means),
        "standard_deviation": float(np.std(means, ddof=1)) if len(means) > 1 else None,
    }
    title = f"{config.preset}, {config.iterations} iterations, {len(runs)} seeds"
    histories = [read_metrics(run.folder.metrics) for run in runs]
    write_atomically(out / "seeds.png", draw_seeds(title, summary["seeds"], means, histories))
    _write_json(out / "seeds.json", summary)
    return summary


def _write_json(path: Path, document: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(document, indent=2).encode() + b"\n")
