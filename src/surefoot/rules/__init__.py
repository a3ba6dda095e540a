"""Rules: ways to improve a policy on an objective, whichever it is."""

from surefoot.rules.base import AbstractRule as AbstractRule
from surefoot.rules.gradient import GradientStep as GradientStep, OptaxStep as OptaxStep
from surefoot.rules.natural_gradient import NaturalGradient as NaturalGradient
from surefoot.rules.ppo import PPOClip as PPOClip, PPOPenalty as PPOPenalty
from surefoot.rules.projected_gradient import ProjectedGradient as ProjectedGradient
from surefoot.rules.trust_region import TrustRegion as TrustRegion
from surefoot.rules.trust_region_penalty import TrustRegionPenalty as TrustRegionPenalty
