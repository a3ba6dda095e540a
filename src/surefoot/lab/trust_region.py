"""The trust region: the prediction of each step against its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from surefoot.lab.base import AbstractExperiment, Ascending, Claim, Result, converges
from surefoot.lab.exact import OBJECTIVE, Exact, exact_batch, fisher_matrix, policy_iteration, solve
from surefoot.lab.figures import BLUE, COLOURS, GREY, RED, YELLOW, Line, Panel
from surefoot.lab.problems import Problem, SoftmaxTable, random_problem
from surefoot.options import OpenFraction, Positive, at_least
from surefoot.rules import TrustRegion
from surefoot.theory.objectives import loss_and_gradient
from surefoot.theory.trust_region import natural_direction, step_length


class Outcome(eqx.Module):
    """The prediction and the result of steps; improvements are in units of J."""

    predicted_kl: Float[Array, "*steps"]
    """½ sᵀFs."""
    kl: Float[Array, "*steps"]
    """The mean KL(old ‖ new)."""
    linear: Float[Array, "*steps"]
    """∇Jᵀs."""
    surrogate: Float[Array, "*steps"]
    """Σ_t γᵗ E[Σ_a π_new(a|s_t) A_t(s_t, a)]: advantages, in the states that the old policy visits."""
    gain: Float[Array, "*steps"]
    """J(new) − J(old)."""
    bound: Float[Array, "*steps"]
    """The theorem's lower bound of `gain`."""
    value: Float[Array, "*steps"]
    """J(new)."""
    attempts: Float[Array, "*steps"]
    """Number of step lengths tried."""

    @property
    def ratios(self) -> list[np.ndarray]:
        """The results divided by the predictions: KL, surrogate and true improvement."""
        pairs = ((self.kl, self.predicted_kl), (self.surrogate, self.linear), (self.gain, self.linear))
        return [np.asarray(actual / predicted) for actual, predicted in pairs]


@dataclass(frozen=True)
class TrustRegionSteps(AbstractExperiment):
    """The trust region: predicted against actual KL and improvement, as δ grows and over many steps.

    The problem is a random MDP that never ends, known exactly. First, full steps of growing length from one
    policy; then steps of the rule `TrustRegion`, one after another. The theory: the quadratic model of the KL
    and the linear model of the improvement are right for short steps; the line search keeps every step
    within δ; and J(new) − J(old) ≥ surrogate − C max_s KL(old ‖ new)(s), C = 4γε/(1 − γ)², ε = max |A|
    (Schulman et al., 2015, theorem 1).
    """

    states: int = 6
    """Number of states."""
    actions: int = 3
    """Number of actions."""
    discount: float = 0.9
    """γ."""
    deltas: Annotated[tuple[float, ...], Positive, Ascending] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """δ of the full steps, ascending."""
    max_kl: float = 0.01
    """δ of the rule."""
    steps: Annotated[int, at_least(1)] = 60
    """Most steps of the rule."""
    gap: Annotated[float, OpenFraction] = 1e-3
    """Fraction of the first policy's distance to the optimal return at which the steps end. They cannot go on
    to the optimum: the Fisher matrix of a deterministic policy is zero."""
    aversion: float = 2.0
    """Factor a of the first policy's logits, −a × the uniform policy's advantages, scaled to standard
    deviation 1. This policy avoids the better actions. As these gain probability, the quadratic model of the
    KL is too small."""

    def measure(self, seed: int) -> Result:
        full, taken, start, best = self.compare(seed)
        rows = [("1, in full", *map(float, row)) for row in zip(self.deltas, *full.ratios, strict=True)]
        name = f"{len(taken.gain)}, with line search (mean)"
        rows.append((name, self.max_kl, *(float(np.mean(x)) for x in taken.ratios)))
        columns = ("steps", "δ", "KL / predicted", "surrogate / predicted", "ΔJ / predicted")
        title = "Trust region: what a step predicts, and what comes of it"
        claims = self._claims(full, taken, start, best)
        return Result(title, columns, rows, self._panels(full, taken), claims)

    def compare(self, seed: int) -> tuple[Outcome, Outcome, float, float]:
        """The full steps, the steps of the rule, and J of the first and of the optimal policy."""
        problem, policy = self.start(seed)
        history = policy_iteration(problem, policy.probabilities)
        start, best = float(history[0].value), float(history[-1].value)
        taken = self.follow_rule(problem, policy, best - self.gap * (best - start))
        return full_steps(problem, policy, self.deltas), taken, start, best

    def start(self, seed: int) -> tuple[Problem, SoftmaxTable]:
        """A random problem and its first policy."""
        problem = random_problem(
            jax.random.key(seed), states=self.states, actions=self.actions, discount=self.discount
        )
        uniform = jnp.full_like(problem.mdp.rewards, 1.0 / self.actions)
        (advantages,) = solve(problem, uniform).advantages
        return problem, SoftmaxTable(-self.aversion * advantages / jnp.std(advantages))

    def follow_rule(self, problem: Problem, policy: SoftmaxTable, enough: float) -> Outcome:
        """Steps of the rule, one after another, until J is `enough`."""
        rule = TrustRegion(max_kl=self.max_kl, damping=0.0, cg_iterations=100, cg_tolerance=1e-12)

        def step(carry: tuple, _: None) -> tuple[tuple, Outcome]:
            problem, old, state = carry
            new, state, metrics = rule.step(OBJECTIVE, old, exact_batch(problem, old), state)
            return (problem, new, state), compare(problem, old, new, metrics["line_search_attempts"])

        @jax.jit
        def run(problem: Problem, policy: SoftmaxTable) -> Outcome:
            return jax.lax.scan(step, (problem, policy, rule.init(policy)), length=self.steps)[1]

        outcome = jax.tree.map(np.asarray, run(problem, policy))
        needed = outcome.value - outcome.gain < enough
        return jax.tree.map(lambda x: x[needed], outcome)

    def _claims(self, full: Outcome, taken: Outcome, start: float, best: float) -> list[Claim]:
        names = ("KL to ½ sᵀFs", "surrogate to ∇Jᵀs", "true improvement to ∇Jᵀs")
        largest = float(np.max(taken.kl)) / self.max_kl
        share = (float(taken.value[-1]) - start) / (best - start)
        above = np.concatenate([x.gain - x.bound for x in (full, taken)])
        return [
            *(
                converges(
                    f"As δ → 0 the ratio of {name} tends to 1: within 1% at δ = {self.deltas[0]:g}, and "
                    "nearer than at the next δ",
                    np.abs(ratio - 1),
                    0.01,
                )
                for name, ratio in zip(names, full.ratios, strict=True)
            ),
            Claim(
                "No step of the rule leaves the trust region",
                largest <= 1 + 1e-9,
                f"the largest KL is {largest:.4f} δ; {np.sum(taken.attempts > 1)} of {len(taken.kl)} steps "
                "had to be shortened",
            ),
            Claim(
                "The true return grows with every step of the rule",
                bool(np.all(taken.gain > 0)),
                f"the smallest gain is {np.min(taken.gain):.2e}",
            ),
            Claim(
                "No improvement is below the bound of Schulman et al.'s theorem 1",
                bool(np.all(above >= 0)),
                f"the smallest distance is {np.min(above):.2e}",
            ),
            Claim(
                f"{self.steps} steps or fewer close {1 - self.gap:.1%} of the gap to the optimal return",
                share >= 1 - self.gap,
                f"{len(taken.gain)} steps close {share:.2%}",
            ),
        ]

    def _panels(self, full: Outcome, taken: Outcome) -> list[Panel]:
        steps = range(1, len(taken.kl) + 1)
        ends = (self.deltas[0], self.deltas[-1])
        labels = ("KL / ½ sᵀFs", "surrogate / ∇Jᵀs", "ΔJ / ∇Jᵀs")
        models = [
            Line(ends, (1.0, 1.0), "", GREY),
            *(Line(self.deltas, *x, "o-") for x in zip(full.ratios, labels, COLOURS, strict=False)),
        ]
        regions = [
            Line(steps, taken.predicted_kl, "predicted, ½ sᵀFs", YELLOW),
            Line(steps, taken.kl, "actual", BLUE),
            Line((steps[0], steps[-1]), (self.max_kl, self.max_kl), "δ", RED, "--"),
        ]
        gains = [
            Line(steps, taken.linear, "predicted, ∇Jᵀs", YELLOW),
            Line(steps, taken.surrogate, "predicted, surrogate", RED),
            Line(steps, taken.gain, "actual", BLUE),
        ]
        region, from_zero = {"ylim": (0, 1.25 * self.max_kl)}, {"ylim": (0, None)}
        improvement = "J(new) − J(old)"
        return [
            Panel("One full step", "δ [nats]", "actual over predicted", models, {"xscale": "log"}),
            Panel("KL of each step of the rule", "step", "mean KL(old ‖ new) [nats]", regions, region),
            Panel("Improvement of each step of the rule", "step", improvement, gains, from_zero),
        ]


def full_steps(problem: Problem, policy: SoftmaxTable, deltas: Sequence[float]) -> Outcome:
    """Steps of length √(2δ / sᵀFs) along the natural gradient, without a line search."""

    @jax.jit
    def find(policy: SoftmaxTable) -> tuple[SoftmaxTable, Array]:
        batch = exact_batch(problem, policy)
        _, gradient = loss_and_gradient(OBJECTIVE, policy, batch)
        natural = natural_direction(
            OBJECTIVE, policy, gradient, batch, damping=0.0, max_iterations=100, tolerance=1e-12
        )
        return natural.direction, natural.curvature

    @jax.jit
    def move(direction: SoftmaxTable, length: Array) -> Outcome:
        new = eqx.apply_updates(policy, optax.tree.scale(-length, direction))
        return compare(problem, policy, new, jnp.ones_like(length))

    direction, curvature = find(policy)
    outcomes = [move(direction, step_length(delta, curvature)) for delta in deltas]
    return jax.tree.map(lambda *x: np.stack(x), *outcomes)


def compare(problem: Problem, old: SoftmaxTable, new: SoftmaxTable, attempts: Array) -> Outcome:
    """The prediction and the result of a step, from the exact gradient and the dense Fisher matrix."""
    batch = exact_batch(problem, old)
    before, after = OBJECTIVE.predict(old, batch), OBJECTIVE.predict(new, batch)
    exact_old, exact_new = (solve(problem, x.probabilities) for x in (old, new))
    _, gradient = loss_and_gradient(OBJECTIVE, old, batch)
    step = new.table.reshape(-1) - old.table.reshape(-1)
    surrogate = -problem.steps * OBJECTIVE.loss(after, batch)
    return Outcome(
        predicted_kl=0.5 * step @ fisher_matrix(problem, old) @ step,
        kl=OBJECTIVE.divergence(before, after, batch),
        linear=-problem.steps * ravel_pytree(gradient)[0] @ step,
        surrogate=surrogate,
        gain=exact_new.value - exact_old.value,
        bound=surrogate - penalty_coefficient(problem, exact_old) * jnp.max(before.kl(after)),
        value=exact_new.value,
        attempts=attempts,
    )


def penalty_coefficient(problem: Problem, exact: Exact) -> Float[Array, ""]:
    """C = 4γε / (1 − γ)² with ε = max |A| (Schulman et al., 2015, theorem 1)."""
    return 4.0 * problem.discount / (1.0 - problem.discount) ** 2 * jnp.max(jnp.abs(exact.advantages))
