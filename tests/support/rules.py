"""Every rule, with options that learn something small in a few steps."""

from surefoot.rules import (
    AbstractRule,
    GradientStep,
    NaturalGradient,
    OptaxStep,
    PPOClip,
    PPOPenalty,
    ProjectedGradient,
    TrustRegion,
    TrustRegionPenalty,
)

RULES: dict[str, AbstractRule] = {
    "gradient": GradientStep(lr=0.1),
    "adam": OptaxStep(lr=0.1),
    "natural gradient": NaturalGradient(lr=0.3),
    "natural gradient by KL": NaturalGradient(max_kl=0.02),
    "projected gradient": ProjectedGradient(lr=0.1, radius=0.1, gradient_steps=4),
    "trust region": TrustRegion(max_kl=0.05),
    "trust region by penalty": TrustRegionPenalty(target_kl=0.05),
    "proximal by clip": PPOClip(lr=0.05, epochs=4, minibatches=2),
    "proximal by penalty": PPOPenalty(lr=0.05, epochs=4, minibatches=2, target_kl=0.05),
}
