"""surefoot: policy optimisation and meta-reinforcement learning on JAX and Equinox.

    run = surefoot.load("runs/…")      a trained run: its policy, its configuration
    surefoot.train(config, "runs/x")   the same as `surefoot train`, from Python

The rooms, each with its contract: `types`, `theory`, `policies`, `baselines`, `envs`, `rules`, `algorithms`,
`samplers`, `experiment`, `report`, `checks`.
"""

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
from surefoot.options import UserError as UserError
