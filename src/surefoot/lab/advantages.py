"""Advantages: the bias and variance of GAE and of k-step advantages with an imperfect value function."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from surefoot.lab.base import AbstractExperiment, Claim, Result, ascends
from surefoot.lab.exact import all_trajectories, policy_gradient, solve, step_scores
from surefoot.lab.figures import COLOURS, VIOLET, Line, Panel
from surefoot.lab.problems import Episodes, Problem, ShortHorizon, SoftmaxTable, chain, chain_policy
from surefoot.lab.sampling import Quality, draw, in_batches, least_p_value, quality
from surefoot.options import Bound, NonNegative, Positive, at_least
from surefoot.theory.advantages import gae, k_step_advantages

Name = tuple[str, float, float]
"""An estimator: its kind, its γ, and its λ or k."""
_NAMED = 3
"""The largest k that the figure names; longer ones are close together."""
_Few = Bound(lambda x: len(x) <= 4, "four or fewer", whole=True)
_ToOne = Bound(lambda x: ascends(x) and x[0] >= 0 and x[-1] == 1, "ascending to 1", whole=True)
_FromZero = Bound(lambda x: x[0] == 0, "ascending from 0 to 1", whole=True)


@dataclass(frozen=True)
class Measured:
    """The exact bias of an estimator, and its quality in a sample."""

    bias: float
    """‖E[g] − ∇J‖, by enumeration."""
    sample: Quality
    """The estimates, compared with ∇J."""
    agreement: Quality
    """The estimates, compared with E[g]."""


@dataclass(frozen=True)
class AdvantageEstimation(AbstractExperiment):
    """Advantages: GAE over (γ, λ) and k-step advantages, the curves of bias against variance.

    The problem is a chain of three states with noisy rewards; the value function has an error in every state.
    Each estimator makes a gradient from each of many episodes, and its bias is known by enumeration. The
    theory (Schulman et al., 2016, sec. 3): with λ = 1, or k the whole episode, the errors of the values
    cancel. A smaller λ or k, or a γ below the problem's, has a bias and less variance.
    """

    horizon: Annotated[int, ShortHorizon] = 6
    """Steps in an episode, without a discount."""
    discounts: Annotated[tuple[float, ...], _ToOne, _Few] = (0.7, 0.9, 1.0)
    """γ of the estimators, ascending to 1, the problem's."""
    lambdas: Annotated[tuple[float, ...], _ToOne, _FromZero] = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    """λ of the estimators, ascending from 0 to 1."""
    noise: Annotated[float, NonNegative] = 1.0
    """Standard deviation of the rewards about their means."""
    value_error: Annotated[float, Positive] = 0.3
    """Root mean square of the errors of the values."""
    episodes: Annotated[int, at_least(1000)] = 40_000
    """Number of episodes."""

    def measure(self, seed: int) -> Result:
        found = self.compare(seed)
        plain = found["GAE", 1.0, 1.0].sample.variance
        rows = [
            (*name, x.bias, x.sample.bias, x.sample.standard_error, x.sample.variance / plain)
            for name, x in found.items()
        ]
        columns = "estimator, γ, λ or k, bias, bias measured, its standard error, variance / plain"
        title = "Advantages: bias and variance with an imperfect value function"
        return Result(title, columns.split(", "), rows, self._panels(found), self._claims(found))

    def start(self) -> tuple[Problem, SoftmaxTable]:
        """The problem and the policy whose gradient is estimated."""
        return chain(self.horizon, discount=1.0), chain_policy()

    def compare(self, seed: int) -> dict[Name, Measured]:
        """Bias and variance of every estimator, on the same episodes."""
        problem, policy = self.start()
        episodes = draw(problem, policy, jax.random.key(seed), (self.episodes,), noise=self.noise)
        truth = policy_gradient(problem, policy)
        estimates = in_batches(self.gradients, episodes, at_once=4000)
        return {
            name: Measured(
                float(np.linalg.norm(mean - truth)),
                quality(estimates[name], truth, 1),
                quality(estimates[name], mean, 1),
            )
            for name, mean in self.expected().items()
        }

    def expected(self, value_error: float | None = None) -> dict[Name, Float[Array, " parameters"]]:
        """E[g] of every estimator. Since g is linear in the rewards, their means are enough."""
        listed, chances = all_trajectories(*self.start())

        @jax.jit
        def mean(episodes: Episodes) -> dict[Name, Array]:
            each = jax.vmap(lambda episode: self.gradients(episode, value_error))(episodes)
            return jax.tree.map(lambda g: chances @ g, each)

        return mean(listed)

    def gradients(
        self, episode: Episodes, value_error: float | None = None
    ) -> dict[Name, Float[Array, " parameters"]]:
        """g = Σ_t ∇log π(a_t|s_t) A_t of one episode, by every estimator.

        An estimator with another γ uses the values of that γ; the errors of the values are the same.
        """
        problem, policy = self.start()
        scores, ones = step_scores(policy, episode), jnp.ones(self.horizon)
        errors = value_errors(problem, self.value_error if value_error is None else value_error)
        inputs: dict[float, tuple[Array, Array, Array, Array]] = {}
        for discount in self.discounts:
            discounted = replace(problem, discount=discount)
            table = solve(discounted, policy.probabilities).values + errors
            values = table[jnp.arange(self.horizon), episode.states]
            # The value after the last step has no effect, since γ_t is zero there.
            next_values = jnp.append(values[1:], 0.0)
            inputs[discount] = (episode.rewards, discounted.discounts, values, next_values)
        advantages = {("GAE", g, x): gae(*inputs[g], x * ones) for g in self.discounts for x in self.lambdas}
        for k in range(1, self.horizon + 1):
            advantages["k-step", 1.0, float(k)] = k_step_advantages(*inputs[1.0], ones, k)
        return {name: scores.T @ x for name, x in advantages.items()}

    def _claims(self, found: Mapping[Name, Measured]) -> list[Claim]:
        td, plain = found["GAE", 1.0, 0.0], found["GAE", 1.0, 1.0]
        one_step, all_steps = found["k-step", 1.0, 1.0], found["k-step", 1.0, float(self.horizon)]
        unbiased, low = (plain, all_steps), found["GAE", self.discounts[0], 1.0]
        truth = policy_gradient(*self.start())
        with_exact_values = max(
            float(np.linalg.norm(g - truth)) for name, g in self.expected(0.0).items() if name[1] == 1.0
        )
        return [
            Claim(
                "λ = 1 at the problem's γ, and k the whole episode, are unbiased whatever the values: by "
                "enumeration (to 1e-10), and in the sample (99.99% confidence region)",
                all(x.bias <= 1e-10 and x.sample.unbiased for x in unbiased),
                f"bias {max(x.bias for x in unbiased):.1e}, {least_p_value(x.sample for x in unbiased)}",
            ),
            Claim(
                "With exact values every λ and k is unbiased at the problem's γ, by enumeration (to 1e-10)",
                with_exact_values <= 1e-10,
                f"bias {with_exact_values:.1e}",
            ),
            *(
                Claim(
                    f"From the least {symbol} to the greatest the bias falls to zero and the variance rises",
                    long.bias < 0.01 * short.bias and short.sample.variance < long.sample.variance,
                    f"bias {short.bias:.3f} → {long.bias:.1e}, "
                    f"variance {short.sample.variance:.2f} → {long.sample.variance:.2f}",
                )
                for symbol, short, long in (("λ", td, plain), ("k", one_step, all_steps))
            ),
            Claim(
                "With a γ below the problem's even λ = 1 is biased, and has less variance",
                low.bias > 1e-3 and not low.sample.unbiased and low.sample.variance < plain.sample.variance,
                f"bias {low.bias:.3f}, variance {low.sample.variance:.2f} < {plain.sample.variance:.2f}",
            ),
            Claim(
                "The mean of each estimator is within the 99.99% confidence region of its exact expectation",
                all(x.agreement.unbiased for x in found.values()),
                f"{least_p_value(x.agreement for x in found.values())} of {len(found)}",
            ),
        ]

    def _panels(self, found: Mapping[Name, Measured]) -> list[Panel]:
        biases, variances, plane = [], [], []
        for colour, discount in zip(COLOURS, self.discounts, strict=False):
            curve = [found["GAE", discount, x] for x in self.lambdas]
            bias, label = [x.bias for x in curve], f"GAE, γ = {discount:g}"
            variance = [x.sample.variance for x in curve]
            biases.append(Line(self.lambdas, bias, label, colour))
            biases.append(Line(self.lambdas, [x.sample.bias for x in curve], "", colour, "o"))
            variances.append(Line(self.lambdas, variance, label, colour, "o-"))
            inner = [f"λ={x:g}" * (0.5 <= x < 1) for x in self.lambdas] if discount == 1 else []
            plane.append(Line(variance, bias, label, colour, "o-", notes=inner, notes_at=(-32.0, -7.0)))
        steps = range(1, self.horizon + 1)
        curve = [found["k-step", 1.0, float(k)] for k in steps]
        variance, bias = [x.sample.variance for x in curve], [x.bias for x in curve]
        notes = [f"k={k}" * (k <= _NAMED) for k in steps]
        plane.append(Line(variance, bias, "k-step, γ = 1", VIOLET, "o-", notes=notes))
        return [
            Panel("Bias: exact (lines), measured (dots)", "λ", "‖E[g] − ∇J‖", biases),
            Panel("Variance of an episode's estimate", "λ", "tr Cov g", variances),
            Panel("Bias against variance", "tr Cov g", "‖E[g] − ∇J‖", plane),
        ]


def value_errors(problem: Problem, size: float) -> Float[Array, " states"]:
    """Errors of the values with mean zero and the root mean square `size` over the states: of one sign in the
    outer states, of the other in the middle."""
    pattern = jnp.where(jnp.arange(problem.states) % 2 == 0, 1.0, -2.0)
    return size * (pattern - pattern.mean()) / pattern.std()
