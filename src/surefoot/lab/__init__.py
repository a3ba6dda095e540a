"""Experiments that compare theory with measurement, on problems small enough to compute everything exactly.

`exact` computes the exact answers. Each experiment is one file (see `base`). To add one, write its file and
export its class here.
"""

from surefoot.lab.advantages import AdvantageEstimation as AdvantageEstimation
from surefoot.lab.base import (
    AbstractExperiment as AbstractExperiment,
    Claim as Claim,
    Result as Result,
    experiments as _experiments,
    run as run,
)
from surefoot.lab.baselines import Baselines as Baselines
from surefoot.lab.collapse import Collapse as Collapse
from surefoot.lab.identities import Identities as Identities
from surefoot.lab.importance import ImportanceWeights as ImportanceWeights
from surefoot.lab.meta_gradient import MetaGradient as MetaGradient
from surefoot.lab.natural_gradient import BadScaling as BadScaling
from surefoot.lab.q_learning import QLearning as QLearning
from surefoot.lab.trust_region import TrustRegionSteps as TrustRegionSteps

EXPERIMENTS = _experiments(globals())
"""Every experiment exported above, by name."""
