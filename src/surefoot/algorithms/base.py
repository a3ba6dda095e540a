"""The contract of an algorithm, and what it is given to work with."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
from jaxtyping import PyTree

from surefoot.algorithms.estimation import Estimation
from surefoot.algorithms.normalisation import Normalisation, Scales
from surefoot.algorithms.reporting import Progress
from surefoot.envs import AbstractFamily
from surefoot.options import UserError
from surefoot.policies import AbstractPolicy
from surefoot.rules import AbstractRule
from surefoot.rules.base import Metrics
from surefoot.samplers import AbstractCollector
from surefoot.theory.objectives import PolicyObjective, reinforce, surrogate
from surefoot.types import Key, Task, is_key

LossName = Literal["reinforce", "surrogate"]
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


@dataclass(frozen=True)
class Setting:
    """Where data comes from and how it is judged."""

    sampler: AbstractCollector
    estimation: Estimation
    normalisation: Normalisation = Normalisation()

    def close(self) -> None:
        """Gives back what the sampler holds."""
        self.sampler.close()


class LearnerState(eqx.Module):
    """Everything an algorithm carries from one iteration to the next; what a checkpoint holds."""

    policy: AbstractPolicy
    rule: PyTree
    baselines: tuple[PyTree, ...]
    """What the baseline learned on the iteration before, for each phase of it."""
    task: Task
    """The task of a single-task algorithm; None where tasks are drawn at each iteration."""
    scales: Scales
    """Of observations and rewards, as far as they are normalised."""
    where: PyTree = None
    """Where the next batch of a single task begins; None where every batch begins anew."""
    progress: Progress | None = None
    """The episodes of a single task so far."""


class AbstractAlgorithm(ABC):
    """A composition of rules: what happens in one iteration. An immutable dataclass of its options."""

    @abstractmethod
    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        """The state before the first iteration."""

    @abstractmethod
    def iterate(self, setting: Setting, state: LearnerState, key: Key) -> tuple[LearnerState, Metrics]:
        """One iteration. `metrics` holds `return` (mean undiscounted return of the episodes that judge the
        policy) and `loss` among others, all scalars."""

    def in_one_program(self, setting: Setting, state: LearnerState) -> bool:
        """Whether an iteration is to be compiled as a whole. If not, `iterate` is called from the host and
        compiles its parts."""
        del state
        return setting.sampler.traceable

    @abstractmethod
    def evaluation_tasks(self, env: AbstractFamily, state: LearnerState, key: Key, n: int) -> Task:
        """n tasks to evaluate on, with a leading axis of n."""
