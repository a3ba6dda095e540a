"""The weights of a perceptron policy as plain NumPy arrays, for a forward pass without JAX."""

from typing import Any

import jax
import numpy as np

from surefoot.algorithms.anil import HeadAdapted
from surefoot.algorithms.meta_sgd import LearnedRates
from surefoot.networks import MLP
from surefoot.options import UserError
from surefoot.policies import (
    AbstractPolicy,
    ActorCriticPolicy,
    CategoricalMLPPolicy,
    GaussianMLPPolicy,
    NormalisedPolicy,
)
from surefoot.theory.statistics import EPSILON, RunningStatistics
from surefoot.types import ObservationSpace, as_space


def plain_weights(policy: AbstractPolicy, space: ObservationSpace) -> dict[str, np.ndarray]:
    """The arrays of a perceptron policy, from observations to means or logits.

    x ← clip((x − observation_mean) / observation_std, ±observation_limit), then for each layer i
    x ← x weight_i + bias_i, with `activation` between layers. The last x is the mean of a Gaussian, whose
    logarithmic standard deviation is `log_std`, or the logits of a categorical distribution. An observation
    of several vectors is taken as one. Raises `UserError` for a policy that is no perceptron of vectors.
    """
    parts = jax.tree.leaves(as_space(space))
    if any(len(part.shape) != 1 for part in parts):
        raise UserError("The policy has a convolutional network, which the plain weights do not describe.")
    inner = policy.policy if isinstance(policy, NormalisedPolicy) else policy
    return _observation_arrays(policy, space) | _layer_arrays(inner)


def _observation_arrays(policy: Any, space: ObservationSpace) -> dict[str, np.ndarray]:
    """The scales of observations; those that change nothing where they are not normalised."""
    parts = jax.tree.leaves(as_space(space))
    seen: list[RunningStatistics | None] = [None] * len(parts)
    if isinstance(policy, NormalisedPolicy):
        is_part = lambda x: x is None or isinstance(x, RunningStatistics)  # noqa: E731
        seen = jax.tree.leaves(policy.statistics, is_leaf=is_part)
    arrays: dict[str, list[Any]] = {"mean": [], "std": [], "limit": []}
    for part, statistics in zip(parts, seen, strict=True):
        one = np.ones(part.shape, np.float32)
        arrays["mean"].append(one * 0 if statistics is None else statistics.mean)
        arrays["std"].append(one if statistics is None else np.sqrt(statistics.variance + EPSILON))
        arrays["limit"].append(one * (np.inf if statistics is None else policy.limit))
    return {f"observation_{name}": np.concatenate(values) for name, values in arrays.items()}


def _layer_arrays(policy: Any) -> dict[str, np.ndarray]:
    while isinstance(policy, HeadAdapted | LearnedRates):
        policy = policy.policy
    head = policy.actor if isinstance(policy, ActorCriticPolicy) else policy
    if not isinstance(head, CategoricalMLPPolicy | GaussianMLPPolicy):
        raise UserError(
            f"{type(policy).__name__} is no perceptron, and the plain weights describe no other policy."
        )
    networks: list[MLP] = [policy.torso, head.network] if head is not policy else [head.network]
    weights = [np.asarray(x) for network in networks for x in network.weights]
    biases = [np.asarray(x) for network in networks for x in network.biases]
    more = {"activation": np.array(networks[0].activation)}
    if isinstance(head, GaussianMLPPolicy):
        if head.correlation is not None:
            raise UserError(
                "The plain weights describe no full covariance; train with --policy.covariance diagonal."
            )
        weights[-1], biases[-1] = weights[-1] * head.action_scale, biases[-1] * head.action_scale
        more["log_std"] = np.asarray(head.log_std)
    layers = {f"weight_{i}": x for i, x in enumerate(weights)} | {
        f"bias_{i}": x for i, x in enumerate(biases)
    }
    return {**layers, **more}
