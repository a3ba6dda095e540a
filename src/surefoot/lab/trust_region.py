"""The trust region: what a step predicts of itself, and what comes of it."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from surefoot.lab.base import COLOURS, AbstractExperiment, Cell, Claim, Result, panels
from surefoot.lab.exact import Exact, Expectation, fisher_matrix, policy_iteration, solve, steps_of
from surefoot.lab.problems import Problem, SoftmaxTable, action_probabilities, random_problem
from surefoot.options import check
from surefoot.rules import TrustRegion
from surefoot.theory.objectives import loss_and_gradient
from surefoot.theory.trust_region import natural_direction, step_length

_OBJECTIVE = Expectation()
_EXACT_SOLVE = {"damping": 0.0, "cg_iterations": 100, "cg_tolerance": 1e-12}


class Outcome(eqx.Module):
    """What one step predicted and what came of it; improvements are in units of J."""

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
    """What the theorem guarantees of `gain`."""
    value: Float[Array, "*steps"]
    """J(new)."""
    attempts: Float[Array, "*steps"]
    """How many lengths were tried."""


@dataclass(frozen=True)
class TrustRegionSteps(AbstractExperiment):
    """The trust region: predicted against actual KL and improvement, as δ grows and over many steps.

    A random MDP that never ends, known exactly. First the full steps of growing length from one policy, then
    the steps of the rule `TrustRegion` one after another. What the theory says: the quadratic model of the
    KL and the linear model of the improvement are right for short steps; the line search keeps every step
    within δ; and J(new) − J(old) ≥ surrogate − C max_s KL(old ‖ new)(s), C = 4γε/(1 − γ)², ε = max |A|
    (Schulman et al., 2015, theorem 1).
    """

    states: int = 6
    actions: int = 3
    discount: float = 0.9
    deltas: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """δ of the full steps, ascending."""
    max_kl: float = 0.01
    """δ of the rule."""
    steps: int = 60
    """At most so many steps of the rule."""
    gap: float = 1e-3
    """They end where this fraction of the first policy's distance to the optimal return is left: a policy
    that is all but deterministic has no Fisher matrix to speak of."""
    aversion: float = 2.0
    """The first policy's logits are −aversion × the uniform policy's advantages, scaled to standard deviation
    1. It shuns the better actions; where they then gain probability, the quadratic model falls short."""

    def __post_init__(self) -> None:
        check(len(self.deltas) > 1, "deltas", self.deltas, "two or more")
        check(self.steps >= 1, "steps", self.steps, "1 or more")
        check(0 < self.gap < 1, "gap", self.gap, "between 0 and 1")

    def measure(self, seed: int) -> Result:
        problem, policy = self.start(seed)
        full = full_steps(problem, policy, self.deltas)
        exact = policy_iteration(problem, action_probabilities(problem, policy))
        start, best = float(exact[0].value), float(exact[-1].value)
        taken = self.follow_rule(problem, policy, best - self.gap * (best - start))
        title = "Trust region: what a step predicts, and what comes of it"
        return Result(
            title,
            ("steps", "δ", "KL / predicted", "surrogate / predicted", "ΔJ / predicted"),
            self._rows(full, taken),
            self._draw(title, full, taken),
            self._claims(full, taken, start, best),
        )

    def start(self, seed: int) -> tuple[Problem, SoftmaxTable]:
        problem = random_problem(
            jax.random.key(seed), states=self.states, actions=self.actions, discount=self.discount
        )
        uniform = jnp.full_like(problem.mdp.rewards, 1.0 / self.actions)
        (advantages,) = solve(problem, uniform).advantages
        return problem, SoftmaxTable(-self.aversion * advantages / jnp.std(advantages))

    def follow_rule(self, problem: Problem, policy: SoftmaxTable, enough: float) -> Outcome:
        """The steps of the rule, each from where the last one ended, until J is `enough`."""
        rule = TrustRegion(max_kl=self.max_kl, **_EXACT_SOLVE)

        def step(carry: tuple, _: None) -> tuple[tuple, Outcome]:
            old, state = carry
            new, state, metrics = rule.step(_OBJECTIVE, old, steps_of(problem, old), state)
            return (new, state), judge(problem, old, new, metrics["line_search_attempts"])

        def run(policy: SoftmaxTable) -> Outcome:
            return jax.lax.scan(step, (policy, rule.init(policy)), length=self.steps)[1]

        outcome = jax.tree.map(np.asarray, jax.jit(run)(policy))
        needed = outcome.value - outcome.gain < enough
        return jax.tree.map(lambda x: x[needed], outcome)

    def _rows(self, full: Outcome, taken: Outcome) -> tuple[tuple[Cell, ...], ...]:
        ratios = zip(*(column.tolist() for column in _ratios(full)), strict=True)
        one = [("1, in full", delta, *row) for delta, row in zip(self.deltas, ratios, strict=True)]
        many = [float(np.mean(column)) for column in _ratios(taken)]
        return (*one, (f"{len(taken.gain)}, with line search (mean)", self.max_kl, *many))

    def _claims(self, full: Outcome, taken: Outcome, start: float, best: float) -> tuple[Claim, ...]:
        errors = [np.abs(column - 1) for column in _ratios(full)]
        small = self.deltas[0]
        names = ("KL to ½ sᵀFs", "surrogate to ∇Jᵀs", "true improvement to ∇Jᵀs")
        limits = [
            Claim(
                f"As δ → 0 the ratio of {name} tends to 1: within 1% at δ = {small:g}, nearer than at ten "
                "times it",
                bool(error[0] <= 0.01 and error[0] < error[1]),
                f"off by {error[0]:.2e}, and by {error[1]:.2e} there",
            )
            for name, error in zip(names, errors, strict=True)
        ]
        largest = float(np.max(taken.kl)) / self.max_kl
        share = (float(taken.value[-1]) - start) / (best - start)
        return (
            *limits,
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
                "No improvement falls below the bound of Schulman et al.'s theorem 1",
                bool(np.all(full.gain >= full.bound) and np.all(taken.gain >= taken.bound)),
                f"the smallest distance is {min(np.min(x.gain - x.bound) for x in (full, taken)):.2e}",
            ),
            Claim(
                f"{self.steps} steps or fewer close {1 - self.gap:.1%} of the gap to the optimal return",
                share >= 1 - self.gap,
                f"{len(taken.gain)} steps close {share:.2%}",
            ),
        )

    def _draw(self, title: str, full: Outcome, taken: Outcome) -> Figure:
        figure, (models, regions, gains) = panels(title, 3)
        labels = ("KL / ½ sᵀFs", "surrogate / ∇Jᵀs", "ΔJ / ∇Jᵀs")
        for ratio, label, colour in zip(_ratios(full), labels, COLOURS, strict=False):
            models.semilogx(self.deltas, ratio, "o-", color=colour, label=label, markersize=4)
        models.axhline(1.0, color=COLOURS[-1], linewidth=0.8)
        models.set(title="One full step", xlabel="δ", ylabel="actual over predicted")
        models.legend(frameon=False)

        count = np.arange(1, len(taken.kl) + 1)
        regions.plot(count, taken.predicted_kl, color=COLOURS[2], label="predicted, ½ sᵀFs")
        regions.plot(count, taken.kl, color=COLOURS[0], label="actual")
        regions.axhline(self.max_kl, color=COLOURS[1], linestyle="--", linewidth=1, label="δ")
        regions.set(title="KL of each step of the rule", xlabel="step", ylabel="mean KL(old ‖ new)")
        regions.set_ylim(0, 1.25 * self.max_kl)
        regions.legend(frameon=False, loc="lower left")

        gains.plot(count, taken.linear, color=COLOURS[2], label="predicted, ∇Jᵀs")
        gains.plot(count, taken.surrogate, color=COLOURS[1], label="predicted, surrogate")
        gains.plot(count, taken.gain, color=COLOURS[0], label="actual")
        gains.set(title="Improvement of each step of the rule", xlabel="step", ylabel="J(new) − J(old)")
        gains.set_ylim(0)
        gains.legend(frameon=False)
        return figure


def full_steps(problem: Problem, policy: SoftmaxTable, deltas: tuple[float, ...]) -> Outcome:
    """Steps of length √(2δ / sᵀFs) along the natural gradient, without a line search."""

    @jax.jit
    def find(policy: SoftmaxTable) -> tuple[SoftmaxTable, Array]:
        batch = steps_of(problem, policy)
        _, gradient = loss_and_gradient(_OBJECTIVE, policy, batch)
        natural = natural_direction(
            _OBJECTIVE, policy, gradient, batch, damping=0.0, max_iterations=100, tolerance=1e-12
        )
        return natural.direction, natural.curvature

    @jax.jit
    def move(direction: SoftmaxTable, length: Array) -> Outcome:
        new = eqx.apply_updates(policy, optax.tree.scale(-length, direction))
        return judge(problem, policy, new, jnp.ones_like(length))

    direction, curvature = find(policy)
    outcomes = [move(direction, step_length(delta, curvature)) for delta in deltas]
    return jax.tree.map(lambda *x: np.stack(x), *outcomes)


def judge(problem: Problem, old: SoftmaxTable, new: SoftmaxTable, attempts: Array) -> Outcome:
    """The prediction and the outcome of a step, from the exact gradient and the dense Fisher matrix."""
    batch = steps_of(problem, old)
    before, after = _OBJECTIVE.predict(old, batch), _OBJECTIVE.predict(new, batch)
    exact_old, exact_new = (solve(problem, action_probabilities(problem, x)) for x in (old, new))
    _, gradient = loss_and_gradient(_OBJECTIVE, old, batch)
    step = new.table.reshape(-1) - old.table.reshape(-1)
    surrogate = -problem.steps * _OBJECTIVE.loss(after, batch)
    return Outcome(
        predicted_kl=0.5 * step @ fisher_matrix(problem, old) @ step,
        kl=_OBJECTIVE.divergence(before, after, batch),
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


def _ratios(outcome: Outcome) -> tuple[np.ndarray, ...]:
    """What came of each step over what was predicted: KL, surrogate and true improvement."""
    return (
        np.asarray(outcome.kl / outcome.predicted_kl),
        np.asarray(outcome.surrogate / outcome.linear),
        np.asarray(outcome.gain / outcome.linear),
    )
