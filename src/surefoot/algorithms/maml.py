"""MAML: model-agnostic meta-learning, with any inner and any outer rule."""

from dataclasses import dataclass

from surefoot.algorithms.gradient_meta import AbstractGradientMeta


@dataclass(frozen=True)
class MAML(AbstractGradientMeta):
    """Model-agnostic meta-learning (Finn et al., 2017, algorithm 3): improve the policy that tasks adapt
    from, on the loss after adaptation."""
