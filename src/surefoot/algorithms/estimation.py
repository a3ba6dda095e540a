"""Options of the estimation of advantages."""

from dataclasses import dataclass
from typing import Annotated, Literal

from surefoot.baselines import AbstractBaseline, LinearFeatures
from surefoot.options import Fraction, Options, UserError, at_least


@dataclass(frozen=True)
class Estimation(Options):
    """Options of the estimation of advantages from one task's episodes."""

    baseline: AbstractBaseline = LinearFeatures()
    """Baseline that is subtracted from the returns."""
    discount: Annotated[float, Fraction] = 0.99
    """Discount factor γ."""
    credit: Literal["gae", "k-step", "whole-return"] = "gae"
    """The return credited to an action, less the baseline. `gae`: generalised advantage estimation, the
    reward-to-go where λ is 1. `k-step`: k rewards and the value of what follows them. `whole-return`: the
    return of the whole episode, as in plain REINFORCE."""
    gae_lambda: Annotated[float, Fraction] = 1.0
    """λ of generalised advantage estimation; 1 is the reward-to-go less the baseline. Used by `gae` only."""
    k: Annotated[int, at_least(1)] = 5
    """Number of rewards that `k-step` sums before it adds the baseline's value. Used by it only."""
    normalise: bool = True
    """Whether each task's advantages are given mean 0 and standard deviation 1 (with RL², those of all trials
    of a batch together). It removes the scale between tasks, for a bias of the order of one over the number
    of episodes."""
    fit: Literal["cross-fit", "same-batch", "previous-batch"] = "cross-fit"
    """Episodes that the baseline is fitted to. `cross-fit`: each half of the task's episodes (with RL², of
    the batch's trials) gets its values from a fit to the other half, so that no episode's return is in its
    own baseline. `same-batch`: a fit to the episodes that it is then subtracted from, which shrinks their
    advantages and biases the gradient; the papers' programs do this. `previous-batch`: a fit to the episodes
    of the iteration before, of all tasks together."""
    time_limit: Literal["env", "ends", "bootstraps"] = "env"
    """Whether the return ends at the horizon (`ends`) or goes on with the value of the final observation
    (`bootstraps`); `env` leaves it to the environment. The whole return (`whole-return`) ends there in any
    case."""

    def validate(self, rows: int) -> None:
        """Raises `UserError` if this number of episodes (or streams) of a task is too small."""
        if self.fit == "cross-fit" and rows < 2:
            raise UserError(
                "Cross-fitting a baseline needs 2 episodes or more of each task. Take more episodes, or "
                "train with --estimation.fit same-batch."
            )
