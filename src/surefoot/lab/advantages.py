"""Advantages: the bias and variance of GAE and of k-step advantages under an imperfect value function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from surefoot.lab import exact
from surefoot.lab.base import COLOURS, AbstractExperiment, Cell, Claim, Result, panels
from surefoot.lab.problems import Problem, SoftmaxTable, action_probabilities, chain
from surefoot.lab.sampling import Episodes, Quality, discounts_of, draw, in_batches, quality, step_scores
from surefoot.options import check
from surefoot.theory.advantages import gae, k_step_advantages

TITLE = "Advantages: bias and variance with an imperfect value function"

Advantages = Callable[[Array, Array, Array], Array]
"""(rewards, values, next values) of one episode -> its advantages; `[time]`."""
Key = tuple[str, float, float]
"""The kind of estimator, its γ, and its λ or k."""


@dataclass(frozen=True)
class Measured:
    """An estimator's bias, exactly, and what a sample says of it."""

    bias: float
    """‖E[g] − ∇J‖, by enumeration."""
    sample: Quality
    """Against ∇J."""
    agreement: Quality
    """Against E[g]."""


@dataclass(frozen=True)
class AdvantageEstimation(AbstractExperiment):
    """Advantages: GAE over (γ, λ) and k-step advantages, the curves of bias against variance.

    A chain of three states with noisy rewards, and a value function with an error in every state. Each
    estimator makes a gradient of each of many episodes, and its bias is known by enumeration. What the theory
    says (Schulman et al., 2016, sec. 3): with λ = 1, or k the whole episode, the errors of the values cancel;
    with less they bias the gradient, for less variance; and so does a γ below the problem's.
    """

    horizon: int = 6
    """Steps in an episode, none of them discounted."""
    discounts: tuple[float, ...] = (0.7, 0.9, 1.0)
    """γ of the estimators, ascending to 1, the problem's."""
    decays: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    """λ, ascending from 0 to 1."""
    noise: float = 1.0
    """The standard deviation of the rewards about their means."""
    error: float = 0.3
    """The root mean square of the values' errors."""
    episodes: int = 40_000
    """Episodes."""

    def __post_init__(self) -> None:
        check(2 <= self.horizon <= 6, "horizon", self.horizon, "from 2 to 6, to list all that can happen")
        check(_ascends(self.discounts, 1.0), "discounts", self.discounts, "two or more, ascending to 1")
        check(_ascends(self.decays, 1.0), "decays", self.decays, "two or more, ascending from 0 to 1")
        check(self.decays[0] == 0, "decays", self.decays, "two or more, ascending from 0 to 1")
        check(self.noise >= 0, "noise", self.noise, "0 or more")
        check(self.error > 0, "error", self.error, "above 0")
        check(self.episodes >= 1000, "episodes", self.episodes, "1000 or more")

    def measure(self, seed: int) -> Result:
        found = self.judge(seed)
        plain = found["GAE", 1.0, 1.0].sample.variance
        rows: list[tuple[Cell, ...]] = [
            (kind, discount, reach, m.bias, m.sample.bias, m.sample.standard_error, m.sample.variance / plain)
            for (kind, discount, reach), m in found.items()
        ]
        columns = (
            "estimator",
            "γ",
            "λ or k",
            "bias",
            "bias measured",
            "its standard error",
            "variance / plain",
        )
        return Result(TITLE, columns, tuple(rows), self._draw(found), self._claims(found))

    def judge(self, seed: int) -> dict[Key, Measured]:
        """Every estimator's bias and variance, on the same episodes."""
        problem, policy = self.start()
        episodes = draw(problem, policy, jax.random.key(seed), (self.episodes,), noise=self.noise)
        truth = ravel_pytree(exact.policy_gradient(problem, policy))[0]
        expected = self.expected(problem, policy)

        def of_one(episode: Episodes) -> list[Array]:
            return list(self.gradients(problem, policy, episode).values())

        estimates = in_batches(of_one, episodes, at_once=4000)
        return {
            key: Measured(
                float(np.linalg.norm(mean - truth)), quality(each, truth, 1), quality(each, mean, 1)
            )
            for (key, mean), each in zip(expected.items(), estimates, strict=True)
        }

    def start(self) -> tuple[Problem, SoftmaxTable]:
        """A policy that is neither uniform nor the same in all states."""
        table = jnp.array([[0.4, -0.4], [0.0, 0.3], [-0.5, 0.2]])
        return chain(self.horizon, discount=1.0), SoftmaxTable(table)

    def expected(
        self, problem: Problem, policy: SoftmaxTable, *, error: float | None = None
    ) -> dict[Key, Float[Array, " parameters"]]:
        """E[g] of every estimator: it is linear in the rewards, so their means say all about it."""
        paths = exact.all_trajectories(problem)
        chances = paths.probabilities(problem, policy)
        listed = Episodes(paths.states, paths.actions, paths.rewards)
        each = jax.vmap(lambda episode: self.gradients(problem, policy, episode, error=error))

        def mean(listed: Episodes) -> dict[Key, Array]:
            return jax.tree.map(lambda g: chances @ g, each(listed))

        found = jax.jit(mean)(listed)
        return {key: found[key] for key in self.estimators()}

    def gradients(
        self, problem: Problem, policy: SoftmaxTable, episode: Episodes, *, error: float | None = None
    ) -> dict[Key, Float[Array, " parameters"]]:
        """g = Σ_t ∇log π(a_t|s_t) A_t of one episode, by every estimator.

        An estimator with another γ has the values of that γ; the errors are the same.
        """
        scores = step_scores(problem, policy, episode)
        errors = value_errors(problem, self.error if error is None else error)
        values = {
            discount: self._values(problem, policy, discount, errors, episode) for discount in self.discounts
        }

        def gradient(key: Key, advantages: Advantages) -> Array:
            return scores.T @ advantages(episode.rewards, *values[key[1]])

        return {key: gradient(key, advantages) for key, advantages in self.estimators(problem).items()}

    def estimators(self, problem: Problem | None = None) -> dict[Key, Advantages]:
        """GAE for every γ and λ; k-step advantages for every k, with the problem's γ."""
        problem = self.start()[0] if problem is None else problem
        ones = jnp.ones(self.horizon)

        def generalised(discount: float, decay: float) -> Advantages:
            discounts = discounts_of(problem, discount)
            return lambda r, v, following: gae(r, discounts, v, following, decay * ones)

        def k_step(k: int) -> Advantages:
            return lambda r, v, following: k_step_advantages(r, discounts_of(problem), v, following, ones, k)

        by_gae = {("GAE", g, x): generalised(g, x) for g in self.discounts for x in self.decays}
        by_steps = {("k-step", 1.0, float(k)): k_step(k) for k in range(1, self.horizon + 1)}
        return {**by_gae, **by_steps}

    def _values(
        self, problem: Problem, policy: SoftmaxTable, discount: float, errors: Array, episode: Episodes
    ) -> tuple[Array, Array]:
        """V̂(s_t) and V̂(s_{t+1}); what follows the last step does not count, since γ_t is zero there."""
        discounted = Problem(problem.mdp, problem.start, discount, problem.horizon)
        solved = exact.solve(discounted, action_probabilities(problem, policy))
        table = solved.values + errors
        values = table[jnp.arange(self.horizon), episode.states]
        return values, jnp.concatenate([values[1:], jnp.zeros(1)])

    def _claims(self, found: Mapping[Key, Measured]) -> tuple[Claim, ...]:
        ends = {
            "λ": (("GAE", 1.0, 0.0), ("GAE", 1.0, 1.0)),
            "k": (("k-step", 1.0, 1.0), ("k-step", 1.0, float(self.horizon))),
        }
        unbiased = [found[long] for _, long in ends.values()]
        worst = min(m.agreement.p_value for m in found.values())
        low, true = found["GAE", self.discounts[0], 1.0], found["GAE", 1.0, 1.0]
        without = self._bias_with_exact_values()
        return (
            Claim(
                "λ = 1 at the problem's γ, and k the whole episode, are unbiased whatever the values: by "
                "enumeration (to 1e-10), and in the sample within the 99.99% confidence region",
                all(m.bias <= 1e-10 and m.sample.unbiased for m in unbiased),
                f"bias {max(m.bias for m in unbiased):.1e}, "
                f"least p-value {min(m.sample.p_value for m in unbiased):.2g}",
            ),
            Claim(
                "With the exact values every λ and every k is unbiased at the problem's γ (by enumeration, "
                "to 1e-10)",
                without <= 1e-10,
                f"bias {without:.1e}",
            ),
            *(_trade_off(symbol, found[short], found[long]) for symbol, (short, long) in ends.items()),
            Claim(
                "A γ below the problem's is biased even with λ = 1, for less variance",
                low.bias > 1e-3 and not low.sample.unbiased and low.sample.variance < true.sample.variance,
                f"bias {low.bias:.3f}, variance {low.sample.variance:.2f} against {true.sample.variance:.2f}",
            ),
            Claim(
                "Each estimator's mean is within the 99.99% confidence region of its exact expectation",
                all(m.agreement.unbiased for m in found.values()),
                f"least p-value {worst:.2g} of {len(found)}",
            ),
        )

    def _bias_with_exact_values(self) -> float:
        """The largest, over all estimators with the problem's γ."""
        problem, policy = self.start()
        truth = ravel_pytree(exact.policy_gradient(problem, policy))[0]
        expected = self.expected(problem, policy, error=0.0)
        return max(float(np.linalg.norm(g - truth)) for key, g in expected.items() if key[1] == 1.0)

    def _draw(self, found: Mapping[Key, Measured]) -> Figure:
        figure, (biases, variances, plane) = panels(TITLE, 3)
        for colour, discount in zip(COLOURS, self.discounts, strict=False):
            of = [found["GAE", discount, decay] for decay in self.decays]
            label = f"GAE, γ = {discount:g}"
            biases.plot(self.decays, [m.bias for m in of], color=colour, label=label)
            biases.plot(self.decays, [m.sample.bias for m in of], "o", color=colour, markersize=4)
            variances.plot(self.decays, [m.sample.variance for m in of], "o-", color=colour, markersize=4)
            _curve(
                plane, of, [f"{x:g}" for x in self.decays] if discount == 1 else [], colour, label, (-3, -11)
            )
        steps = range(1, self.horizon + 1)
        _curve(
            plane,
            [found["k-step", 1.0, float(k)] for k in steps],
            [f"k={k}" for k in steps],
            COLOURS[4],
            "k-step, γ = 1",
            (3, 4),
        )
        biases.set(title="Bias: exact (lines), measured (dots)", xlabel="λ", ylabel="‖E[g] − ∇J‖")
        variances.set(title="Variance of an episode's estimate", xlabel="λ", ylabel="tr Cov g")
        plane.set(title="Bias against variance", xlabel="tr Cov g", ylabel="‖E[g] − ∇J‖")
        biases.legend(frameon=False)
        plane.legend(frameon=False)
        return figure


def value_errors(problem: Problem, size: float) -> Float[Array, " states"]:
    """Errors of the values at any time, with mean zero and the root mean square `size` over the states: one
    sign in the outer states, the other in the middle."""
    pattern = jnp.where(jnp.arange(problem.states) % 2 == 0, 1.0, -2.0)
    return size * (pattern - pattern.mean()) / pattern.std()


def _trade_off(symbol: str, short: Measured, long: Measured) -> Claim:
    return Claim(
        f"From the least {symbol} to the greatest the bias falls to zero, and the variance rises",
        long.bias < 0.01 * short.bias and short.sample.variance < long.sample.variance,
        f"bias {short.bias:.3f} → {long.bias:.1e}, variance {short.sample.variance:.2f} → "
        f"{long.sample.variance:.2f}",
    )


def _curve(
    axes: Axes, of: list[Measured], names: list[str], colour: str, label: str, offset: tuple[int, int]
) -> None:
    """Bias over variance; `names`, if there are any, are those of the points."""
    x, y = [m.sample.variance for m in of], [m.bias for m in of]
    axes.plot(x, y, "o-", color=colour, markersize=4, label=label)
    for name, *at in zip(names, x, y, strict=False):
        axes.annotate(
            name, (at[0], at[1]), textcoords="offset points", xytext=offset, fontsize=7, color=colour
        )


def _ascends(values: tuple[float, ...], last: float) -> bool:
    rises = all(a < b for a, b in pairwise(values))
    return len(values) >= 2 and values[0] >= 0 and values[-1] == last and rises
