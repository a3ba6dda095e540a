"""surefoot: policy optimisation and meta-reinforcement learning on JAX and Equinox.

    run = surefoot.load("runs/…")      a trained run: its policy, its configuration
    surefoot.train(config, "runs/x")   the same as `surefoot train`, from Python

The rooms, each with its contract: `types`, `theory`, `policies`, `baselines`, `envs`, `rules`, `algorithms`,
`samplers`, `experiment`, `report`, `checks`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from surefoot.options import UserError as UserError

if TYPE_CHECKING:
    from surefoot.experiment import (
        PRESETS as PRESETS,
        Config as Config,
        Evaluation as Evaluation,
        Run as Run,
        evaluate as evaluate,
        load as load,
        preset as preset,
        resume as resume,
        train as train,
    )

_FROM_EXPERIMENT = ("PRESETS", "Config", "Evaluation", "Run", "evaluate", "load", "preset", "resume", "train")


def __getattr__(name: str) -> Any:
    """What runs experiments is imported when it is first asked for: a room alone needs little."""
    if name in _FROM_EXPERIMENT:
        return getattr(importlib.import_module("surefoot.experiment"), name)
    raise AttributeError(f"module 'surefoot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FROM_EXPERIMENT])
