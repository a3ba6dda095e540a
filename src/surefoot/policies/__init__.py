"""Policies: modules that map observations to distributions over actions, and the options that build them."""

from surefoot.policies.base import AbstractPolicy as AbstractPolicy, PolicyOptions as PolicyOptions
from surefoot.policies.categorical import (
    CategoricalMLP as CategoricalMLP,
    CategoricalMLPPolicy as CategoricalMLPPolicy,
)
from surefoot.policies.gaussian import (
    GaussianMLP as GaussianMLP,
    GaussianMLPPolicy as GaussianMLPPolicy,
)
from surefoot.policies.mlp import MLP as MLP, MLPOptions as MLPOptions
