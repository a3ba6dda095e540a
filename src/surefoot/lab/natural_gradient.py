"""The natural gradient: the same policies in all coordinates; the plain gradient depends on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from surefoot.lab.base import CLOSED, AbstractExperiment, Cell, Claim, OneRate, Result, ascends, close
from surefoot.lab.exact import OBJECTIVE, exact_batch, policy_gradient, policy_iteration, solve
from surefoot.lab.figures import BLUE, COLOURS, GREY, Line, Panel
from surefoot.lab.problems import Problem, SoftmaxTable, reparametrised, two_states
from surefoot.options import Bound, Options, Positive, at_least, check
from surefoot.rules import NaturalGradient

_FromOne = Bound(
    lambda x: ascends(x) and x[0] == 1 and len(x) < len(COLOURS),
    "1 and then one to four larger ones, ascending",
    whole=True,
)


@dataclass(frozen=True)
class Learning:
    """The policies of one gradient in one parametrisation, before the first step and after each."""

    probabilities: Float[np.ndarray, "steps states actions"]
    values: Float[np.ndarray, " steps"]
    """J."""
    rate: float
    needed: int | None
    """Steps until 95% of the gap to the optimal return is closed; None if they were not enough."""

    @property
    def needed_text(self) -> Cell:
        """The number of steps needed, or `more than` the number taken."""
        return f"more than {len(self.values) - 1}" if self.needed is None else self.needed


@dataclass(frozen=True)
class BadScaling(AbstractExperiment):
    """Natural against plain gradient on badly scaled parametrisations of one table.

    The problem is Kakade's with two states (2002, sec. 5): staying earns 1 in the first and 2 in the second,
    and the first policy prefers to stay in the first. The logits are z = M θ. M rotates those of each state
    at random, and divides those of the second state by κ, its condition number: the same policies in worse
    and worse coordinates. The natural step moves z by F_z⁻¹ g_z whatever M is, the plain one by M Mᵀ g_z,
    which is κ² times slower in the second state than in the first.
    """

    conditions: Annotated[tuple[float, ...], at_least(1), _FromOne] = (1.0, 3.0, 10.0)
    """Condition numbers of M, ascending; 1 is the table itself."""
    rates: Annotated[tuple[float, ...], Positive, OneRate] = tuple(10.0 ** (k / 2) for k in range(-2, 9))
    """Rates of the plain gradient; the best of them is compared."""
    steps: int = 2000
    """Most steps of the plain gradient."""
    natural_rate: float = 1.0
    """Rate of the natural gradient."""
    natural_steps: Annotated[int, at_least(1)] = 10
    """Steps of the natural gradient. They are few because there is no damping: the Fisher matrix of an almost
    deterministic policy vanishes."""
    preference: float = 1.0
    """Logits of the first policy: this for staying in the first state and for crossing from the second, and
    minus this for the other two."""
    noise: float = 0.1
    """Standard deviation of the noise that is added to the logits."""

    def __post_init__(self) -> None:
        Options.__post_init__(self)
        natural = self.natural_steps
        check(natural <= self.steps, "natural_steps", natural, "at most the steps of the plain gradient")

    def measure(self, seed: int) -> Result:
        problem, policies = two_states(), self.parametrisations(seed)
        best = float(policy_iteration(problem, policies[0].probabilities)[-1].value)
        natural = [self.follow_natural(problem, policy, best) for policy in policies]
        tried = [self.follow_plain(problem, policy, best) for policy in policies]
        plain = [min(found, key=lambda x: (x.needed or np.inf, -x.values.max())) for found in tried]
        rows = [
            (condition, name, x.rate, x.needed_text, float(x.values[self.natural_steps]))
            for name, found in (("natural", natural), ("plain, best rate", plain))
            for condition, x in zip(self.conditions, found, strict=True)
        ]
        after = f"J after {self.natural_steps} steps"
        columns = ("condition number of M", "gradient", "rate", f"steps to {CLOSED:.0%}", after)
        title = "Natural against plain gradient: one table in better and worse coordinates"
        panels = self._panels(problem, natural, tried, plain)
        return Result(title, columns, rows, panels, self._claims(natural, plain))

    def parametrisations(self, seed: int) -> list[SoftmaxTable]:
        """One policy in coordinates of each condition number: M is a random rotation for each state's two
        logits, the second one's divided by it."""
        random = np.random.default_rng(seed)
        signs = np.array([[1.0, -1.0], [-1.0, 1.0]])
        logits = self.preference * signs + self.noise * random.normal(size=signs.shape)
        table = SoftmaxTable(jnp.asarray(logits))
        found, zero = [table], np.zeros((2, 2))
        for condition in self.conditions[1:]:
            first, second = (np.linalg.qr(random.normal(size=(2, 2)))[0] for _ in range(2))
            found.append(reparametrised(table, np.block([[first, zero], [zero, second / condition]])))
        return found

    def follow_natural(self, problem: Problem, policy: SoftmaxTable, best: float) -> Learning:
        """Steps of the rule `NaturalGradient` without damping; `best` is the optimal return."""
        rule = NaturalGradient(lr=self.natural_rate, damping=0.0, cg_iterations=100, cg_tolerance=1e-14)

        def step(policy: SoftmaxTable, rate: Array) -> SoftmaxTable:
            del rate
            return rule.step(OBJECTIVE, policy, exact_batch(problem, policy), None)[0]

        return _follow(problem, policy, step, [self.natural_rate], self.natural_steps, best)[0]

    def follow_plain(self, problem: Problem, policy: SoftmaxTable, best: float) -> list[Learning]:
        """θ ← θ + α ∇J/N with each rate α, N = `problem.steps`; `best` is the optimal return."""

        def step(policy: SoftmaxTable, rate: Array) -> SoftmaxTable:
            ascent = rate / problem.steps * policy_gradient(problem, policy)
            return replace(policy, table=policy.table + ascent.reshape(policy.table.shape))

        return _follow(problem, policy, step, self.rates, self.steps, best)

    def _claims(self, natural: Sequence[Learning], plain: Sequence[Learning]) -> list[Claim]:
        first = natural[0].probabilities
        difference = max(float(np.abs(found.probabilities - first).max()) for found in natural)
        slowest = min(len(plain[-1].values), plain[-1].needed or np.inf)
        good, quick = plain[0].needed, natural[0].needed
        return [
            close(
                "The natural gradient takes the same path through the policies in all coordinates, in "
                "probabilities to 1e-6",
                difference,
                1e-6,
            ),
            Claim(
                f"The plain gradient, at the best of its rates, needs at least 10 times as many steps at "
                f"condition number {self.conditions[-1]:g} as at 1",
                good is not None and slowest >= 10 * good,
                f"{plain[-1].needed_text} against {plain[0].needed_text}",
            ),
            Claim(
                "The natural gradient needs fewer steps than the plain one at its best, also in the table "
                "itself",
                quick is not None and (good is None or quick < good),
                f"{natural[0].needed_text} against {plain[0].needed_text}",
            ),
        ]

    def _panels(
        self,
        problem: Problem,
        natural: Sequence[Learning],
        tried: Sequence[Sequence[Learning]],
        plain: Sequence[Learning],
    ) -> list[Panel]:
        values, rates, plane = [], [], []
        found = zip(self.conditions, tried, plain, COLOURS[1:], strict=False)
        for condition, all_rates, best, colour in found:
            label, curve = f"plain, condition {condition:g}", best.values
            values.append(Line(np.arange(1, len(curve) + 1), curve, label, colour))
            needed = [found.needed or self.steps for found in all_rates]
            rates.append(Line(self.rates, needed, label, colour, "o-"))
            # The policies are a plane: the probability of staying in each of the two states.
            path = best.probabilities[: best.needed and best.needed + 1, :, 0]
            plane.append(Line(path[:, 0], path[:, 1], label, colour))
        label, path = "natural, every condition", natural[0].probabilities[..., 0]
        for i, found in enumerate(natural):
            steps = np.arange(1, len(found.values) + 1)
            values.append(Line(steps, found.values, label * (i == 0), BLUE, "o-"))
        ends = (self.rates[0], self.rates[-1])
        if natural[0].needed is not None:
            rates.append(Line(ends, (natural[0].needed,) * 2, label, BLUE))
        rates.append(Line(ends, (self.steps,) * 2, "limit of the steps", GREY, "--"))
        plane.append(Line(path[:, 0], path[:, 1], label, BLUE, "o-"))
        plane.append(Line(path[:1, 0], path[:1, 1], "first policy", "black", "s"))
        stay, contours = "π(stay | {} state)".format, _return_heights(problem)
        log = {"xscale": "log", "yscale": "log", "ylim": (1, None)}
        return [
            Panel("Each at its best rate", "steps + 1", "J", values, {"xscale": "log"}),
            Panel("Steps to 95% by the plain gradient's rate", "rate", "steps", rates, log),
            Panel("Paths; contours of J", stay("first"), stay("second"), plane, contours=contours),
        ]


def _follow(
    problem: Problem,
    policy: SoftmaxTable,
    step: Callable[[SoftmaxTable, Array], SoftmaxTable],
    rates: Sequence[float],
    count: int,
    best: float,
) -> list[Learning]:
    """`count` steps with each of the rates."""

    @jax.jit
    def run(policy: SoftmaxTable, rate: Array) -> tuple[Array, Array]:
        def turn(policy: SoftmaxTable, _: None) -> tuple[SoftmaxTable, tuple[Array, Array]]:
            probabilities = policy.probabilities
            return step(policy, rate), (probabilities, solve(problem, probabilities).value)

        return jax.lax.scan(turn, policy, length=count + 1)[1]

    found = []
    for rate in rates:
        probabilities, values = map(np.asarray, run(policy, jnp.asarray(rate)))
        enough = values >= values[0] + CLOSED * (best - values[0])
        found.append(Learning(probabilities, values, rate, int(np.argmax(enough)) if enough.any() else None))
    return found


def _return_heights(problem: Problem) -> tuple[np.ndarray, np.ndarray, Array]:
    """J on a grid of the probabilities of staying in the first and in the second state."""
    grid = np.linspace(0.0, 1.0, 41)
    stays = jnp.stack(jnp.meshgrid(jnp.asarray(grid), jnp.asarray(grid)), axis=-1).reshape(-1, 2)
    tables = jnp.stack([stays, 1.0 - stays], axis=-1)
    # Not by `jax.vmap`: see `exact` on batches of linear systems.
    return grid, grid, jax.lax.map(lambda table: solve(problem, table).value, tables).reshape(41, 41)
