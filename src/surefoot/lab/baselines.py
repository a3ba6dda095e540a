"""Baselines: what they do to the bias and the variance of the policy gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from surefoot.lab import exact
from surefoot.lab.base import COLOURS, AbstractExperiment, Claim, Result, panels
from surefoot.lab.baseline_estimators import (
    BIASED,
    CAUSAL,
    ESTIMATORS,
    EXACT,
    FITTED,
    LIBRARY,
    NONE,
    PLAIN,
    UNBIASED,
    data_of,
)
from surefoot.lab.problems import Problem, SoftmaxTable, chain
from surefoot.lab.sampling import Episodes, Quality, draw, in_batches, quality, step_scores
from surefoot.options import check
from surefoot.theory.policy_gradient import optimal_baseline

TITLE = "Baselines: bias and variance of the policy gradient"
KINDS = {"none": NONE, "exact": EXACT, "fitted to others": FITTED, "fitted to the same": BIASED}
ORDERS = {
    "none to the mean return to the optimal constant": (
        PLAIN,
        f"{PLAIN}, constant, exact",
        f"{PLAIN}, optimal constant, exact",
    ),
    "the whole return to the reward-to-go, to a baseline of time, to one of time and state": (
        PLAIN,
        CAUSAL,
        f"{CAUSAL}, of time, exact",
        f"{CAUSAL}, of time and state, exact",
    ),
}
ESTIMATES = {
    f"{PLAIN}, constant": f"{PLAIN}, constant, exact",
    f"{PLAIN}, optimal constant": f"{PLAIN}, optimal constant, exact",
    f"{CAUSAL}, time-dependent": f"{CAUSAL}, of time, exact",
    f"{CAUSAL}, linear-features": f"{CAUSAL}, of time and state, exact",
}
"""What is fitted, and the exact baseline that it is an estimate of."""


class Spread(eqx.Module):
    """How the variance of plain REINFORCE depends on a constant baseline, exactly."""

    constants: Float[Array, " constants"]
    variances: Float[Array, "constants parameters"]
    optimal: Float[Array, " parameters"]
    least: Float[Array, " parameters"]
    """The variances at `optimal`."""


@dataclass(frozen=True)
class Baselines(AbstractExperiment):
    """Baselines: the bias and variance of each, and of reward-to-go against the whole return.

    A chain of three states, and a policy whose gradient is known exactly. Each estimator makes an estimate of
    each of many small batches: with exact baselines, with those of `surefoot.baselines`, fitted to other
    episodes by their state, one-hot, and time, and with two that are fitted to the very episodes they judge.
    What the theory says: a baseline that does not depend on the action leaves the gradient unbiased
    (Williams, 1992); so does leaving out rewards that came before the action; and of all constants
    Σ s²R / Σ s² has the least variance, in each parameter (Greensmith et al., 2004).
    """

    horizon: int = 6
    """Steps in an episode."""
    episodes: int = 10
    """Episodes in a batch; what is fitted to others is fitted to one fewer."""
    batches: int = 8000
    """Batches."""

    def __post_init__(self) -> None:
        check(2 <= self.horizon <= 6, "horizon", self.horizon, "from 2 to 6, to list all that can happen")
        check(self.episodes >= 2, "episodes", self.episodes, "2 or more, to leave one out")
        check(self.batches >= 100, "batches", self.batches, "100 or more")

    def measure(self, seed: int) -> Result:
        problem, policy = self.start()
        truth = ravel_pytree(exact.policy_gradient(problem, policy))[0]
        spread = constant_baselines(problem, policy)
        estimates = self.estimate(problem, policy, spread.optimal, seed)
        found = {name: quality(estimates[name], truth, self.episodes) for name in ESTIMATORS}
        return Result(
            TITLE,
            ("estimator", "bias", "its standard error", "p-value", "variance", "relative to plain"),
            tuple(
                (name, q.bias, q.standard_error, q.p_value, q.variance, q.variance / found[PLAIN].variance)
                for name, q in found.items()
            ),
            _draw(found, spread),
            claims(found, spread),
        )

    def start(self) -> tuple[Problem, SoftmaxTable]:
        """A policy that is neither uniform nor the same in all states."""
        table = jnp.array([[0.4, -0.4], [0.0, 0.3], [-0.5, 0.2]])
        return chain(self.horizon), SoftmaxTable(table)

    def estimate(
        self, problem: Problem, policy: SoftmaxTable, optimal: Float[Array, " parameters"], seed: int
    ) -> dict[str, Float[Array, "batch parameters"]]:
        """Every estimator's estimates, all of the same batches."""
        episodes_key, start_key = jax.random.split(jax.random.key(seed))

        def of_one(episodes: Episodes) -> dict[str, Array]:
            data = data_of(problem, policy, optimal, episodes, start_key)
            return {name: estimator(data) for name, estimator in ESTIMATORS.items()}

        return in_batches(of_one, draw(problem, policy, episodes_key, (self.batches, 2 * self.episodes - 1)))


def constant_baselines(problem: Problem, policy: SoftmaxTable, count: int = 41) -> Spread:
    """Var[s (R − b)] of each parameter for constants b over the range of the returns, by enumeration."""
    paths = exact.all_trajectories(problem)
    chances, returns = paths.probabilities(problem, policy), paths.returns(problem)
    scores = step_scores(problem, policy, Episodes(paths.states, paths.actions, paths.rewards)).sum(axis=1)
    # The roots of the probabilities as weights: they enter the formula by their squares.
    optimal = optimal_baseline(jnp.sqrt(chances)[:, None] * scores, returns)

    def variances(b: Array) -> Array:
        terms = scores * (returns[:, None] - b)
        return chances @ terms**2 - (chances @ terms) ** 2

    constants = jnp.linspace(returns.min(), returns.max(), count)
    return Spread(constants, jax.vmap(variances)(constants), optimal, variances(optimal))


def claims(found: Mapping[str, Quality], spread: Spread) -> tuple[Claim, ...]:
    """What the qualities of all estimators bear out."""
    worst = min(UNBIASED, key=lambda name: found[name].p_value)
    ratio = {name: q.variance / found[PLAIN].variance for name, q in found.items()}
    saved = {
        name: 1 - ratio[name] / ratio[none] for none in NONE for name in LIBRARY if name.startswith(none)
    }
    least = min(saved, key=lambda name: saved[name])
    excess = float(np.max(spread.least / np.min(spread.variances, axis=0)) - 1)
    return (
        Claim(
            "Without a baseline, and with each that has not seen the episodes, exact or fitted to others, "
            "the mean is within the 99.99% confidence region of the exact gradient (χ²)",
            all(found[name].unbiased for name in UNBIASED),
            f"least p-value {found[worst].p_value:.2g} of {len(UNBIASED)} ({worst})",
        ),
        Claim(
            "A baseline fitted to the same episodes is biased: its mean is outside of that region",
            not any(found[name].unbiased for name in BIASED),
            ", ".join(
                f"{found[name].bias / found[name].standard_error:.0f} standard errors" for name in BIASED
            ),
        ),
        Claim(
            "Each of the library's baselines, fitted to other episodes, has at least a tenth less variance "
            "than none with the same credit",
            all(x >= 0.1 for x in saved.values()),
            f"{saved[least]:.0%} less, at least, of {len(saved)} ({least})",
        ),
        *(
            Claim(
                f"Variance falls from {steps}, with exact baselines",
                all(after < before for before, after in pairwise(ratio[name] for name in order)),
                " > ".join(f"{ratio[name]:.3f}" for name in order),
            )
            for steps, order in ORDERS.items()
        ),
        Claim(
            "What has to be estimated from the other episodes has more variance than what it estimates, "
            "exactly known: constants, values of time, values of time and state",
            all(ratio[name] > ratio[known] for name, known in ESTIMATES.items()),
            ", ".join(f"{ratio[name]:.3f} > {ratio[known]:.3f}" for name, known in ESTIMATES.items()),
        ),
        Claim(
            "The optimal constant has, in every parameter, no more variance than any other (by enumeration, "
            "to 1e-9)",
            excess <= 1e-9,
            f"{1 + excess:.5f} of the least among {len(spread.constants)} constants, at most",
        ),
    )


def _draw(found: Mapping[str, Quality], spread: Spread) -> Figure:
    figure, (bars, biases, curves) = panels(TITLE, 3)
    colours = dict(zip(KINDS, COLOURS[-1:] + COLOURS[3:4] + COLOURS[:2], strict=True))
    names = list(found)
    for kind, members in KINDS.items():
        at = [names.index(name) for name in members]
        of = [found[name] for name in members]
        bars.barh(at, [q.variance / found[PLAIN].variance for q in of], color=colours[kind], label=kind)
        biases.barh(at, [q.bias / q.standard_error for q in of], color=colours[kind])
    bars.set(title="Variance, relative to plain REINFORCE", yticks=range(len(names)), yticklabels=names)
    bars.legend(title="baseline", frameon=False, loc="lower right")
    biases.axvline(1.0, color="black", linestyle="--", linewidth=1, label="chance alone")
    biases.set(title="Bias, in standard errors", yticks=[], xscale="log", xlim=(0.2, None))
    biases.legend(frameon=False)
    for axes in (bars, biases):
        axes.set_ylim(len(names) - 0.4, -0.6)
    for i in range(0, spread.variances.shape[1], 2):
        curves.plot(spread.constants, spread.variances[:, i], color=COLOURS[i // 2], label=f"state {i // 2}")
        curves.plot(spread.optimal[i], spread.least[i], "o", color=COLOURS[i // 2])
    curves.set(title="Variance under a constant, exactly", xlabel="b", ylabel="Var[s (R − b)]")
    curves.legend(title="parameter of", frameon=False)
    return figure
