"""The last evaluation and the picture, made when training ends."""

import json
from pathlib import Path
from typing import Any

from surefoot.experiment import EvaluationResult, Run
from surefoot.experiment.evaluation import evaluate_both
from surefoot.experiment.files import write_atomically
from surefoot.experiment.metrics import read_metrics
from surefoot.report.adaptation import draw_adaptation
from surefoot.report.learning import draw_learning


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


def _write_json(path: Path, document: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(document, indent=2).encode() + b"\n")
