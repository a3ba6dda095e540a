"""Base classes: policies, recurrent ones, actor-critics, and the options that build a policy."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.options import UserError
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.objectives import AuxiliaryLoss, Prediction
from surefoot.types import ActionSpace, Key, Observations, ObservationSpace

Role = Literal["shared", "adapted", "context"]
"""The role of a parameter in meta-learning. `shared` ones are changed by outer steps only, `adapted` ones by
outer and inner steps. `context` ones are changed by inner steps only, and each adaptation starts from their
initial values."""


class AbstractPolicy(eqx.Module):
    """π(a|s): a module whose floating-point arrays are its parameters. Rules do not change it; they return
    another one.

    A policy that wraps another one passes on `is_recurrent`, `predicts_values` and `roles`, and the methods
    that belong to them.
    """

    is_recurrent: ClassVar[bool] = False
    """Whether it has the methods of `AbstractRecurrentPolicy`."""
    predicts_values: ClassVar[bool] = False
    """Whether it has the methods of `AbstractActorCritic`."""

    @abstractmethod
    def __call__(self, observations: Observations) -> AbstractDistribution:
        """The distribution over actions at each observation, for any batch of them."""

    def roles(self) -> PyTree:
        """The role of each parameter: the policy with a `Role` in place of every floating-point array, and
        None in place of every other leaf. By default every parameter is `adapted`."""
        return with_role(self, "adapted")


class AbstractRecurrentPolicy(AbstractPolicy):
    """π(a|s₀ … s_t): a policy with a memory. Called on observations `[*batch time obs]`, it treats each row
    as one whole episode."""

    is_recurrent = True

    @abstractmethod
    def initial_memory(self) -> PyTree:
        """The memory at the beginning of an episode: arrays without leading axes."""

    @abstractmethod
    def act(self, observations: Observations, memory: PyTree) -> tuple[AbstractDistribution, PyTree]:
        """One step of each episode of a batch: the distributions, and the memory for the next step."""

    @abstractmethod
    def unroll(
        self,
        observations: Observations,
        starts: Bool[Array, "*axes time"],
        memory: PyTree,
    ) -> AbstractDistribution:
        """The distributions at every step of streams that may hold several episodes each, equal to those of
        `act`. The memory is `memory` at first and the initial one wherever `starts` is true."""


class AbstractActorCritic(AbstractPolicy):
    """A policy that also predicts the return."""

    auxiliary: eqx.AbstractVar[AuxiliaryLoss | None]
    """The loss of its auxiliary output; None if it has none."""
    predicts_values = True

    @abstractmethod
    def values(self, observations: Observations) -> Float[Array, "*batch"]:
        """V(s) at each observation."""

    @abstractmethod
    def outputs(self, observations: Observations, actions: Array) -> Prediction:
        """All outputs, computed together; the auxiliary one may depend on `actions`."""


class AbstractRecurrentActorCritic(AbstractRecurrentPolicy, AbstractActorCritic):
    """A policy with a memory that also predicts the return. `values` and `outputs` treat each row of
    observations `[*batch time obs]` as one whole episode, as the policy itself does."""

    @abstractmethod
    def unroll_outputs(
        self, observations: Observations, actions: Array, starts: Bool[Array, "*axes time"], memory: PyTree
    ) -> Prediction:
        """All outputs at every step of streams, with the memory as in `unroll`."""

    @abstractmethod
    def unroll_values(
        self,
        observations: Observations,
        next_observations: Observations,
        starts: Bool[Array, "*axes time"],
        memory: PyTree,
    ) -> tuple[Float[Array, "*axes time"], Float[Array, "*axes time"]]:
        """V at every step of streams, and V at the observation after each step as if no episode ended
        there."""


class PolicyOptions(ABC):
    """An immutable dataclass of options that builds a policy for an environment's spaces."""

    def for_episodes(self, horizon: int) -> "PolicyOptions":
        """The options for episodes, or trials, of at most `horizon` steps: the same, unless the policy's
        memory has a length. Raises `UserError` if it does not support as many."""
        del horizon
        return self

    @abstractmethod
    def build(
        self, key: Key, observation_space: ObservationSpace, action_space: ActionSpace
    ) -> AbstractPolicy:
        """A new policy. Raises `UserError` if it does not support the action space."""


def with_role(tree: PyTree, role: Role) -> PyTree:
    """`tree` with `role` in place of every floating-point array, and None in place of every other leaf."""
    return jax.tree.map(lambda _: role, eqx.filter(tree, eqx.is_inexact_array))


def partition_by_role(policy: Any, *roles: Role) -> tuple[Any, Any]:
    """The parameters that have one of these roles, and everything else: `(selected, rest)`.

    Both have the policy's structure, with None in place of the leaves of the other, so that
    `eqx.combine(selected, rest)` is the policy. Leaves that are not floating-point arrays are in `rest`.
    Raises `UserError` if `policy.roles()` does not give a `Role` to each parameter.
    """
    stated = policy.roles()
    parameters = eqx.filter(policy, eqx.is_inexact_array)
    complete = jax.tree.structure(stated) == jax.tree.structure(parameters)
    if not complete or not set(jax.tree.leaves(stated)) <= set(get_args(Role)):
        raise UserError(
            f"The roles of {type(policy).__name__} are {stated}; `roles` must return the policy with one of "
            f"{', '.join(get_args(Role))} in place of each floating-point array, and None elsewhere."
        )
    chosen = jax.tree.map(lambda role: role in roles, stated, is_leaf=lambda leaf: leaf is None)
    return eqx.partition(policy, chosen)


def initial_memory(policy: Any) -> PyTree:
    """The memory of any policy at the beginning of an episode; None for one that has no memory."""
    return policy.initial_memory() if policy.is_recurrent else None


def act(policy: Any, observations: Observations, memory: PyTree) -> tuple[AbstractDistribution, PyTree]:
    """One step of any policy, with or without a memory."""
    if policy.is_recurrent:
        return policy.act(observations, memory)
    return policy(observations), memory
