"""The contract of a policy, of one that remembers, of one that also judges, and of the options that build
them."""

from abc import ABC, abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.objectives import AuxiliaryLoss, Prediction
from surefoot.types import ActionSpace, Key


class AbstractPolicy(eqx.Module):
    """π(a|s): a module whose floating-point arrays are what rules improve. Adapting it returns another
    one."""

    @abstractmethod
    def __call__(self, observations: Float[Array, "*batch obs"]) -> AbstractDistribution:
        """The distribution over actions at each observation, for any batch of them."""

    @property
    def is_recurrent(self) -> bool:
        """Whether it has the methods of `AbstractRecurrentPolicy`. A policy that wraps another one passes on
        this property and the next one, with the methods."""
        return False

    @property
    def predicts_values(self) -> bool:
        """Whether it has the methods of `AbstractActorCritic`."""
        return False


class AbstractRecurrentPolicy(AbstractPolicy):
    """π(a|s₀ … s_t): a policy with a memory. Called on observations `[*batch time obs]`, it takes each row
    for an episode from its beginning."""

    @property
    def is_recurrent(self) -> bool:
        return True

    @abstractmethod
    def initial_memory(self) -> PyTree:
        """What it remembers at the beginning of an episode: arrays without leading axes."""

    @abstractmethod
    def act(
        self, observations: Float[Array, "*batch obs"], memory: PyTree
    ) -> tuple[AbstractDistribution, PyTree]:
        """One step of each of a batch of episodes: the distributions, and the memory for the next step."""

    @abstractmethod
    def unroll(
        self,
        observations: Float[Array, "*axes time obs"],
        starts: Bool[Array, "*axes time"],
        memory: PyTree,
    ) -> AbstractDistribution:
        """Streams of several episodes each: from `memory`, and from the beginning at every step that
        `starts` one. The distributions are those that `act` gave, step by step."""


class AbstractActorCritic(AbstractPolicy):
    """A policy that predicts the return beside the action, with parts of one network."""

    auxiliary: eqx.AbstractVar[AuxiliaryLoss | None]
    """The loss of its auxiliary output; None if it has none."""

    @property
    def predicts_values(self) -> bool:
        return True

    @abstractmethod
    def values(self, observations: Float[Array, "*batch obs"]) -> Float[Array, "*batch"]:
        """V at each observation."""

    @abstractmethod
    def outputs(self, observations: Float[Array, "*batch obs"], actions: Array) -> Prediction:
        """Everything at once; `actions` are those that the auxiliary output may depend on."""


class PolicyOptions(ABC):
    """An immutable dataclass of options that builds a policy for an environment's spaces."""

    @abstractmethod
    def build(self, key: Key, observation_size: int, action_space: ActionSpace) -> AbstractPolicy:
        """A new policy. Raises `UserError` if it cannot serve the action space."""


def initial_memory(policy: Any) -> PyTree:
    """What any policy remembers at the beginning of an episode: None for one that has no memory."""
    return policy.initial_memory() if policy.is_recurrent else None


def act(
    policy: Any, observations: Float[Array, "*batch obs"], memory: PyTree
) -> tuple[AbstractDistribution, PyTree]:
    """One step of any policy, with or without a memory."""
    if policy.is_recurrent:
        return policy.act(observations, memory)
    return policy(observations), memory
