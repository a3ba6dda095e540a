"""surefoot: policy optimisation and meta-reinforcement learning on JAX and Equinox.

    learner = surefoot.Learner("cartpole/ppo", seed=0)
    learner.train(100)
    print(learner.evaluate())

    run = surefoot.load("runs/…")      a trained run: its policy, its configuration

The packages, each with its contract: `types`, `theory`, `policies`, `baselines`, `envs`, `rules`,
`algorithms`, `samplers`, `statistics`, `experiment`, `report`, `checks`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from surefoot.options import UserError as UserError

if TYPE_CHECKING:
    from surefoot import envs as envs, statistics as statistics
    from surefoot.algorithms import (
        ANIL as ANIL,
        CAVIA as CAVIA,
        EMAML as EMAML,
        MAML as MAML,
        RL2 as RL2,
        MetaSGD as MetaSGD,
        ProMP as ProMP,
        SingleTask as SingleTask,
    )
    from surefoot.experiment import (
        PRESETS as PRESETS,
        Checkpoints as Checkpoints,
        Config as Config,
        Evaluation as Evaluation,
        Event as Event,
        Learner as Learner,
        MLflow as MLflow,
        Run as Run,
        TensorBoard as TensorBoard,
        WeightsAndBiases as WeightsAndBiases,
        evaluate as evaluate,
        load as load,
        preset as preset,
        read_metrics as read_metrics,
        resume as resume,
        train as train,
    )
    from surefoot.rules import (
        GradientStep as GradientStep,
        NaturalGradient as NaturalGradient,
        OptaxStep as OptaxStep,
        PPOClip as PPOClip,
        PPOPenalty as PPOPenalty,
        TrustRegion as TrustRegion,
        TrustRegionPenalty as TrustRegionPenalty,
    )

_PACKAGES = (
    *("algorithms", "baselines", "checks", "envs", "experiment", "policies", "report", "rules"),
    *("samplers", "statistics", "theory", "types"),
)
_EXPERIMENT = (
    *("PRESETS", "Checkpoints", "Config", "Evaluation", "Event", "Learner", "Run"),
    *("MLflow", "TensorBoard", "WeightsAndBiases"),
    *("evaluate", "load", "preset", "read_metrics", "resume", "train"),
)


def __getattr__(name: str) -> Any:
    """Imports what is asked for: `surefoot.envs` and the other packages, what `surefoot.experiment` offers,
    and every algorithm and rule by its own name."""
    if name in _PACKAGES:
        return importlib.import_module(f"surefoot.{name}")
    if name in _EXPERIMENT:
        return getattr(importlib.import_module("surefoot.experiment"), name)
    if name[:1].isupper():
        for package in ("algorithms", "rules"):
            found = getattr(importlib.import_module(f"surefoot.{package}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module 'surefoot' has no attribute {name!r}")


def __dir__() -> list[str]:
    algorithms, rules = (importlib.import_module(f"surefoot.{name}") for name in ("algorithms", "rules"))
    parts = [name for module in (algorithms, rules) for name in vars(module) if name[:1].isupper()]
    return sorted(["UserError", *_PACKAGES, *_EXPERIMENT, *parts])
