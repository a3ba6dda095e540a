"""Folders of finished runs, written by hand: nothing is trained."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from surefoot.experiment import Config, preset
from surefoot.experiment.serialise import save_config


def write_run(
    folder: Path,
    name: str,
    seed: int,
    curve: list[float | None],
    returns: list[list[float]],
    steps: int | None = 100,
    **changes: Any,
) -> Path:
    """A run of a preset with these returns of an iteration's episodes, and these of evaluation
    `[step of adaptation][task]`; `changes` are those of the configuration, or of its algorithm."""
    config = preset(name)
    of_config = {k: v for k, v in changes.items() if k in Config.__dataclass_fields__}
    of_algorithm = {k: v for k, v in changes.items() if k not in of_config}
    algorithm = replace(of_config.pop("algorithm", config.algorithm), **of_algorithm)
    config = replace(config, seed=seed, iterations=len(curve), algorithm=algorithm, **of_config)
    folder.mkdir(parents=True)
    save_config(config, folder / "config.yaml")
    rows = []
    for i, value in enumerate(curve, 1):
        of_adaptation = {"return_before": -1.0, "return_after": value} if config.algorithm.adapts else {}
        counted = {} if steps is None else {"steps": i * steps}
        rows.append({"iteration": i, "return": value, **of_adaptation, **counted, "seconds": 36.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = {
        "preset": name,
        "iteration": len(curve),
        "seed": config.evaluation.seed,
        "tasks": len(returns[0]),
        "episodes": 2,
        "actions": "sampled",
        "returns": [
            {"step": step, "mean": sum(row) / len(row), "ci95": None, "tasks": row}
            for step, row in enumerate(returns)
        ],
    }
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


def write_seeds(folder: Path, name: str, scores: dict[int, float], **changes: Any) -> Path:
    """A folder of several seeds, as `surefoot train --seeds` makes it, with a score of each seed."""
    for seed, score in scores.items():
        write_run(folder / f"seed{seed:03d}", name, seed, [None, score / 2, score], [[score] * 3], **changes)
    return folder
