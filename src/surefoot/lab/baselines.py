"""Baselines: what they do to the bias and the variance of the policy gradient."""

from collections.abc import Callable, Mapping
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
from surefoot.lab.problems import Problem, SoftmaxTable, action_probabilities, chain
from surefoot.lab.sampling import (
    Episodes,
    Quality,
    discounts_of,
    draw,
    in_batches,
    past_discounts,
    quality,
    step_scores,
)
from surefoot.options import check
from surefoot.theory.policy_gradient import optimal_baseline, policy_gradient
from surefoot.theory.returns import reward_to_go

PLAIN = "whole return"
CAUSAL = "reward-to-go"
TITLE = "Baselines: bias and variance of the policy gradient"


class Data(eqx.Module):
    """One batch of episodes, as the estimators see it."""

    scores: Float[Array, "n time parameters"]
    """∇log π(a_t|s_t)."""
    returns: Float[Array, " n"]
    """R = Σ_t γᵗ r_t."""
    forward: Float[Array, "n time"]
    """G_t = Σ_{k≥t} γᵏ⁻ᵗ r_k."""
    visited: Float[Array, "n time states"]
    """The states, one-hot."""
    values: Float[Array, "n time"]
    """The exact V_t(s_t)."""
    past: Float[Array, " time"]
    """γᵗ."""
    value: Float[Array, ""]
    """The exact J, the mean return."""
    optimal: Float[Array, " parameters"]
    """The exact optimal constant."""


Estimator = Callable[[Data], Float[Array, " parameters"]]


def whole(baseline: Callable[[Data], Array]) -> Estimator:
    """mean Σ_t ∇log π(a_t|s_t) (R − b)."""
    return lambda data: policy_gradient(data.scores.sum(axis=1), data.returns, baseline(data))


def causal(baseline: Callable[[Data], Array]) -> Estimator:
    """mean Σ_t γᵗ ∇log π(a_t|s_t) (G_t − b_t)."""

    def estimate(data: Data) -> Array:
        advantages = data.forward - baseline(data)
        return jnp.einsum("ntp,nt->p", data.scores, data.past * advantages) / len(advantages)

    return estimate


def others_mean(x: Float[Array, "n *rest"]) -> Float[Array, "n *rest"]:
    """For each episode, the mean over the others."""
    return (x.sum(axis=0) - x) / max(len(x) - 1, 1)


def fitted_values(data: Data, *, leave_one_out: bool) -> Float[Array, "n time"]:
    """V̂_t(s_t), the mean of G_t over the episodes that were in that state at that time, this one included or
    not: Monte-Carlo regression on a table. Zero where there is none."""
    returns = data.forward[..., None] * data.visited
    own = (returns, data.visited) if leave_one_out else (0.0, 0.0)
    totals, counts = (x.sum(axis=0) - y for x, y in zip((returns, data.visited), own, strict=True))
    values = totals / jnp.maximum(counts, 1.0)
    return jnp.sum(jnp.broadcast_to(values, data.visited.shape) * data.visited, axis=-1)


def _optimal(data: Data, *, leave_one_out: bool) -> Array:
    return optimal_baseline(data.scores.sum(axis=1), data.returns, leave_one_out=leave_one_out)


UNBIASED: Mapping[str, Estimator] = {
    PLAIN: whole(lambda _: jnp.zeros(())),
    f"{PLAIN}, constant": whole(lambda d: others_mean(d.returns)[:, None]),
    f"{PLAIN}, constant, exact": whole(lambda d: d.value),
    f"{PLAIN}, optimal constant": whole(lambda d: _optimal(d, leave_one_out=True)),
    f"{PLAIN}, optimal constant, exact": whole(lambda d: d.optimal),
    CAUSAL: causal(lambda d: jnp.zeros_like(d.forward)),
    f"{CAUSAL}, constant": causal(lambda d: others_mean(d.forward.mean(axis=1))[:, None]),
    f"{CAUSAL}, of time": causal(lambda d: others_mean(d.forward)),
    f"{CAUSAL}, of state, fitted": causal(lambda d: fitted_values(d, leave_one_out=True)),
    f"{CAUSAL}, of state, exact": causal(lambda d: d.values),
}
"""Baselines that do not depend on the episode's own actions: what is fitted is fitted on the other ones."""
BIASED: Mapping[str, Estimator] = {
    f"{PLAIN}, optimal constant, same episodes": whole(lambda d: _optimal(d, leave_one_out=False)),
    f"{CAUSAL}, of state, fitted to the same episodes": causal(
        lambda d: fitted_values(d, leave_one_out=False)
    ),
}
"""The same, fitted on the very episodes whose returns they are subtracted from."""
ESTIMATORS: Mapping[str, Estimator] = {**UNBIASED, **BIASED}


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
    each of many small batches. What the theory says: a baseline that does not depend on the action leaves the
    gradient unbiased (Williams, 1992); so does leaving out rewards that came before the action; and of all
    constants Σ s²R / Σ s² has the least variance, in each parameter (Greensmith et al., 2004).
    """

    horizon: int = 6
    """Steps in an episode."""
    episodes: int = 10
    """Episodes in a batch."""
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
            _claims(found, spread),
        )

    def start(self) -> tuple[Problem, SoftmaxTable]:
        """A policy that is neither uniform nor the same in all states."""
        table = jnp.array([[0.4, -0.4], [0.0, 0.3], [-0.5, 0.2]])
        return chain(self.horizon), SoftmaxTable(table)

    def estimate(
        self, problem: Problem, policy: SoftmaxTable, optimal: Float[Array, " parameters"], seed: int
    ) -> dict[str, Float[Array, "batch parameters"]]:
        """Every estimator's estimates, all of the same batches."""

        def of_one(episodes: Episodes) -> dict[str, Array]:
            data = data_of(problem, policy, optimal, episodes)
            return {name: estimator(data) for name, estimator in ESTIMATORS.items()}

        key = jax.random.key(seed)
        return in_batches(of_one, draw(problem, policy, key, (self.batches, self.episodes)))


def data_of(
    problem: Problem, policy: SoftmaxTable, optimal: Float[Array, " parameters"], episodes: Episodes
) -> Data:
    """What the estimators see of one batch of episodes; `optimal` is the exact optimal constant."""
    solved = exact.solve(problem, action_probabilities(problem, policy))
    forward = jax.vmap(reward_to_go, (0, None))(episodes.rewards, discounts_of(problem))
    return Data(
        scores=step_scores(problem, policy, episodes),
        returns=forward[:, 0],
        forward=forward,
        visited=problem.observations[episodes.states],
        values=solved.values[jnp.arange(forward.shape[1]), episodes.states],
        past=past_discounts(problem),
        value=solved.value,
        optimal=optimal,
    )


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


def _claims(found: Mapping[str, Quality], spread: Spread) -> tuple[Claim, ...]:
    worst = min(UNBIASED, key=lambda name: found[name].p_value)
    ratio = {name: q.variance / found[PLAIN].variance for name, q in found.items()}
    excess = float(np.max(spread.least / np.min(spread.variances, axis=0)) - 1)
    fitted = [ratio[f"{PLAIN}, {name}"] for name in ("optimal constant", "constant")]
    constants = [ratio[f"{PLAIN}, {name}, exact"] for name in ("optimal constant", "constant")]
    order = (PLAIN, CAUSAL, f"{CAUSAL}, of time", f"{CAUSAL}, of state, exact")
    return (
        Claim(
            "Without a baseline, and with each that is not fitted to the same episodes, the mean is within "
            "the 99.99% confidence region of the exact gradient (χ²)",
            all(found[name].unbiased for name in UNBIASED),
            f"least p-value {found[worst].p_value:.2g} ({worst})",
        ),
        Claim(
            "A baseline fitted to the same episodes is biased: its mean is outside of that region",
            not any(found[name].unbiased for name in BIASED),
            ", ".join(
                f"{found[name].bias / found[name].standard_error:.0f} standard errors" for name in BIASED
            ),
        ),
        Claim(
            "Variance falls from the whole return to the reward-to-go, to a baseline of time, to the exact "
            "values of the states",
            all(after < before for before, after in pairwise(ratio[name] for name in order)),
            " > ".join(f"{ratio[name]:.3f}" for name in order),
        ),
        Claim(
            "The optimal constant has, in every parameter, no more variance than any other (by enumeration, "
            "to 1e-9)",
            excess <= 1e-9,
            f"{1 + excess:.5f} of the least among {len(spread.constants)} constants, at most",
        ),
        Claim(
            "So it has in the sample: less than the mean return, which has less than none; having to "
            "estimate it from the other episodes costs either of them some of that",
            constants[0] < constants[1] < 1.0 and all(a < b for a, b in zip(constants, fitted, strict=True)),
            f"{constants[0]:.3f} < {constants[1]:.3f} < 1; estimated {fitted[0]:.3f} and {fitted[1]:.3f}",
        ),
    )


def _draw(found: Mapping[str, Quality], spread: Spread) -> Figure:
    figure, (bars, biases, curves) = panels(TITLE, 3)
    names, at = list(found), np.arange(len(found))
    colours = [COLOURS[1] if name in BIASED else COLOURS[0] for name in names]
    bars.barh(at, [found[name].variance / found[PLAIN].variance for name in names], color=colours)
    bars.set(title="Variance, relative to plain REINFORCE", yticks=at, yticklabels=names)
    biases.barh(at, [found[name].bias / found[name].standard_error for name in names], color=colours)
    biases.axvline(1.0, color=COLOURS[-1], linestyle="--", label="chance alone")
    biases.set(title="Bias, in standard errors", yticks=[], xscale="log", xlim=(0.2, None))
    biases.legend(frameon=False)
    for axes in (bars, biases):
        axes.invert_yaxis()
    for i in range(0, spread.variances.shape[1], 2):
        curves.plot(spread.constants, spread.variances[:, i], color=COLOURS[i // 2], label=f"state {i // 2}")
        curves.plot(spread.optimal[i], spread.least[i], "o", color=COLOURS[i // 2])
    curves.set(title="Variance under a constant, exactly", xlabel="b", ylabel="Var[s (R − b)]")
    curves.legend(title="parameter of", frameon=False)
    return figure
