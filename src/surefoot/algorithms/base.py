"""The contract of an algorithm, of the adapter that it gives, and what it is given to work with."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Literal, TypeVar, cast

import equinox as eqx
import jax
from jaxtyping import Array, Int, PyTree

from surefoot.algorithms.estimation import Estimation
from surefoot.algorithms.estimator import Estimator
from surefoot.algorithms.normalisation import Normalisation, Scales
from surefoot.envs import AbstractFamily
from surefoot.options import UserError
from surefoot.policies import AbstractPolicy
from surefoot.rules import AbstractRule
from surefoot.rules.base import Metrics
from surefoot.samplers import AbstractCollector
from surefoot.samplers.base import is_traced
from surefoot.theory.objectives import PolicyObjective, reinforce, surrogate
from surefoot.types import Batch, Key, ObservationSpace, Rollout, Task, is_key

LossName = Literal["reinforce", "surrogate"]
_Function = TypeVar("_Function", bound=Callable[..., Any])
_LOSSES = {"reinforce": reinforce, "surrogate": surrogate}


def policy_objective(loss: LossName, entropy_bonus: float = 0.0) -> PolicyObjective:
    """The objective with one of the theory's losses, by its name."""
    return PolicyObjective(_LOSSES[loss], entropy_bonus)


def own_keys(state: PyTree, key: Key) -> PyTree:
    """A rule's first state, with the random keys in it made the run's own."""
    word = jax.random.bits(key)

    return jax.tree.map(lambda x: jax.random.fold_in(x, word) if is_key(x) else x, state)


def check_loss(rule: AbstractRule, loss: LossName, option: str) -> None:
    """Raises `UserError` if the rule needs more of the loss than a gradient at the policy that drew the data,
    and the pseudo-loss has no more."""
    if loss == "reinforce" and rule.requires_surrogate:
        raise UserError(
            f"{type(rule).__name__} uses the loss of other policies than the one that drew the data, and "
            f"there the pseudo-loss `reinforce` means nothing; use {option} surrogate. (A rule of your own "
            "that takes one gradient step states requires_surrogate = False.)"
        )


def jit_from_host(function: _Function) -> _Function:
    """A function that is compiled where the host calls it. Where it is traced already it is called as it is:
    then options in its arguments may be traced values, which a compiled function would have to hash."""
    compiled = eqx.filter_jit(function)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return (function if is_traced(*arguments) else compiled)(*arguments)

    vars(call)["_compiled"] = compiled  # for `compile_ahead`
    return cast(_Function, call)


def compile_ahead(function: Any, *arguments: Any) -> None:
    """Compiles a function of `jit_from_host` or `eqx.filter_jit` for such arguments, without a call. The next
    call with arguments of this form does not compile."""
    getattr(function, "_compiled", function).lower(*arguments).compile()


@dataclass(frozen=True)
class Setting:
    """The sampler that data comes from, and the estimator that makes batches of it."""

    sampler: AbstractCollector
    estimator: Estimator

    @classmethod
    def of(
        cls, sampler: AbstractCollector, estimation: Estimation, normalisation: Normalisation | None = None
    ) -> "Setting":
        """A setting whose estimator has these options, and what the sampler's environment says of its time
        limit."""
        return cls(sampler, Estimator.of(sampler.env, estimation, normalisation))

    def close(self) -> None:
        """Closes the sampler."""
        self.sampler.close()


class LearnerState(eqx.Module):
    """Everything an algorithm carries from one iteration to the next; what a checkpoint holds."""

    policy: AbstractPolicy
    scales: Scales
    """Running statistics of observations and rewards, as far as they are normalised."""
    baselines: tuple[PyTree, ...]
    """The baseline's parameters after the iteration before, for each phase of it."""
    own: Any
    """The algorithm's own state, such as that of its rule."""


class AbstractAdapter(eqx.Module):
    """The adaptation of a policy to one task. The methods are written for one task, and vmapped outside.

    A learner is whatever `begin` returns: a pytree that holds the policy and what else adaptation needs.
    """

    steps: eqx.AbstractVar[int]
    """Number of steps of adaptation that the algorithm trains for."""
    adapts_within_trials: ClassVar[bool] = False
    """Whether a step of adaptation is an episode of a trial, so that one rollout holds all phases and the
    adapter has the methods of `AbstractTrialAdapter`."""

    @abstractmethod
    def begin(self, policy: AbstractPolicy) -> Any:
        """The learner before any data of the task."""

    @abstractmethod
    def acting(self, learner: Any) -> AbstractPolicy:
        """The learner's policy as it meets the environment."""

    @abstractmethod
    def batch(self, rollout: Rollout, phase: Int[Array, ""]) -> Batch:
        """The batch made of a rollout `[episode time ...]`, which was drawn after `phase` steps of
        adaptation, a number that may be traced."""

    @abstractmethod
    def improve(self, learner: Any, batch: Batch) -> Any:
        """The learner after one step of adaptation."""


class AbstractTrialAdapter(AbstractAdapter):
    """An adapter whose policy adapts within a trial."""

    adapts_within_trials = True

    @abstractmethod
    def phases(self, rollout: Rollout, steps: int) -> tuple[Rollout, ...]:
        """The first `steps` + 1 episodes of trials `[*axes time ...]`, each a rollout with the same axes.
        Raises `UserError` if a trial has fewer."""


class AbstractAlgorithm(ABC):
    """A composition of rules: what happens in one iteration. An immutable dataclass of its options."""

    adapts: ClassVar[bool] = property(abstractmethod(lambda _: False))  # pyright: ignore[reportAssignmentType]
    """Whether it trains a policy that adapts to tasks, so that evaluation adapts it too."""

    @property
    @abstractmethod
    def adaptation_rule(self) -> AbstractRule | None:
        """The rule by which its policies adapt unless the user names another; None if they adapt without
        one."""

    def policy_space(self, space: ObservationSpace) -> ObservationSpace:
        """The form of what its policies observe, where the environment's observations are of `space`. A
        method that gives them further inputs adds these."""
        return space

    @abstractmethod
    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        """The state before the first iteration."""

    @abstractmethod
    def iterate(self, setting: Setting, state: LearnerState, key: Key) -> tuple[LearnerState, Metrics]:
        """One iteration. `metrics` holds `return` (mean undiscounted return of the episodes by which the
        policy is rated) and `loss` among others, all scalars."""

    @abstractmethod
    def adapter(
        self, estimator: Estimator, state: LearnerState, rule: AbstractRule | None = None
    ) -> AbstractAdapter:
        """The adapter to a task, with what the learner knows by now. A `rule` replaces
        `adaptation_rule`."""

    def evaluation_tasks(self, env: AbstractFamily, state: LearnerState, key: Key, n: int) -> Task:
        """n tasks to evaluate on, with a leading axis of n; by default new ones of the family."""
        del state
        return env.sample_tasks(key, n)

    @abstractmethod
    def learned(self, state: LearnerState) -> PyTree:
        """The part of the state that must stay finite."""

    def in_one_program(self, setting: Setting, state: LearnerState) -> bool:
        """Whether an iteration is to be compiled as a whole. If not, `iterate` is called from the host and
        compiles its parts."""
        del state
        return setting.sampler.traceable
