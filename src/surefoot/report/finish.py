"""The last evaluation and the picture, made when training ends."""

import json

from surefoot.experiment import EvaluationResult, Run
from surefoot.experiment.evaluation import evaluate_both
from surefoot.experiment.files import write_atomically
from surefoot.experiment.metrics import read_metrics
from surefoot.report.adaptation import draw_adaptation
from surefoot.report.learning import draw_learning


def finish(run: Run) -> tuple[EvaluationResult, EvaluationResult]:
    """Evaluates a run as `evaluate_at_end` does, and leaves a picture of the result by sampled actions in its
    folder."""
    sampled, mode = evaluate_at_end(run)
    history = read_metrics(run.folder.metrics)
    if len(sampled.returns) > 1:
        picture = draw_adaptation(sampled, run.config.env, history)
    else:
        picture = draw_learning(sampled, history)
    write_atomically(run.picture, picture)
    return sampled, mode


def evaluate_at_end(run: Run) -> tuple[EvaluationResult, EvaluationResult]:
    """Evaluates a run as its configuration says and leaves `evaluation.json` in its folder.

    Returns the result by sampled actions and the one by the policy's mode. The file has both, the second
    under `deterministic`.
    """
    sampled, mode = evaluate_both(run.config, run.state.learner, run.iteration)
    document = {**sampled.summary(), "deterministic": mode.summary()["returns"]}
    write_atomically(run.folder.evaluation, json.dumps(document, indent=2).encode() + b"\n")
    return sampled, mode
