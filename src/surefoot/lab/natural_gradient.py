"""The natural gradient: the same policies whatever the coordinates, on which the plain one depends."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from surefoot.lab.base import COLOURS, AbstractExperiment, Cell, Claim, Result, panels
from surefoot.lab.exact import Expectation, policy_gradient, policy_iteration, solve, steps_of
from surefoot.lab.problems import Problem, SoftmaxTable, action_probabilities, reparametrised, two_states
from surefoot.options import check
from surefoot.rules import NaturalGradient

_OBJECTIVE = Expectation()
_CLOSED = 0.95


class Path(eqx.Module):
    """Where a policy went, the start included."""

    probabilities: Float[Array, "*steps states actions"]
    values: Float[Array, "*steps"]
    """J."""


@dataclass(frozen=True)
class Learning:
    """What one gradient made of one parametrisation."""

    path: Path
    rate: float
    needed: int | None
    """Steps until 95% of the gap to the optimal return was closed; None if that many did not do."""


@dataclass(frozen=True)
class BadScaling(AbstractExperiment):
    """Natural against plain gradient on badly scaled parametrisations of one table.

    Kakade's two states (2002, sec. 5): staying earns 1 in the first and 2 in the second, and the first policy
    would rather stay in the first. The logits are z = M θ, where M turns those of each state by a random
    rotation and measures the second state's in units κ times as large, its condition number: the same
    policies in worse and worse coordinates. The natural step moves z by F_z⁻¹ g_z whatever M is, the plain
    one by M Mᵀ g_z, which is κ² times slower in the second state than in the first.
    """

    conditions: tuple[float, ...] = (1.0, 3.0, 10.0)
    """Condition numbers of M, ascending; 1 is the table itself."""
    rates: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-2, 9))
    """Of the plain gradient, which is judged by the best of them."""
    steps: int = 2000
    """Of the plain gradient, at most."""
    natural_rate: float = 1.0
    natural_steps: int = 10
    """Few, for it takes no damping: of a policy that is all but deterministic the Fisher matrix vanishes."""
    preference: float = 1.0
    """The logits of the first policy: plus this for the first state's move that stays and the second one's
    that crosses, minus this for the other two."""
    noise: float = 0.1
    """The standard deviation of what is added to them."""

    def __post_init__(self) -> None:
        check(self.conditions[:1] == (1.0,), "conditions", self.conditions, "1 and then larger numbers")
        check(min(self.conditions) >= 1, "conditions", self.conditions, "numbers of 1 or more")
        check(len(self.rates) > 0, "rates", self.rates, "at least one rate")
        natural = self.natural_steps
        check(1 <= natural <= self.steps, "natural_steps", natural, "from 1 to the steps of the plain one")

    def measure(self, seed: int) -> Result:
        problem = two_states()
        policies = self.parametrisations(seed)
        optimum = policy_iteration(problem, action_probabilities(problem, policies[0]))[-1]
        best = float(optimum.value)
        natural = [self.follow_natural(problem, policy, best) for policy in policies]
        plain = [self.follow_plain(problem, policy, best) for policy in policies]
        chosen = [min(found, key=lambda x: (x.needed or np.inf, -x.path.values.max())) for found in plain]
        title = "Natural against plain gradient: one table in better and worse coordinates"
        after = self.natural_steps
        return Result(
            title,
            (
                "condition number of M",
                "gradient",
                "rate",
                f"steps to {_CLOSED:.0%}",
                f"J after {after} steps",
            ),
            self._rows(natural, chosen),
            self._draw(title, problem, natural, plain, chosen),
            self._claims(natural, chosen),
        )

    def parametrisations(self, seed: int) -> list[SoftmaxTable]:
        """One policy in coordinates of each condition number."""
        random = np.random.default_rng(seed)
        signs = np.array([[1.0, -1.0], [-1.0, 1.0]])
        logits = self.preference * signs + self.noise * random.normal(size=signs.shape)
        table = SoftmaxTable(jnp.asarray(logits))
        matrices = [rescaling(random, condition) for condition in self.conditions[1:]]
        return [table, *(reparametrised(table, matrix) for matrix in matrices)]

    def follow_natural(self, problem: Problem, policy: SoftmaxTable, best: float) -> Learning:
        """Steps of the rule `NaturalGradient`, undamped."""
        rule = NaturalGradient(lr=self.natural_rate, damping=0.0, cg_iterations=100, cg_tolerance=1e-14)

        def step(policy: SoftmaxTable) -> SoftmaxTable:
            return rule.step(_OBJECTIVE, policy, steps_of(problem, policy), None)[0]

        path = jax.jit(lambda policy: _follow(problem, policy, step, self.natural_steps))(policy)
        return _learning(path, self.natural_rate, best)

    def follow_plain(self, problem: Problem, policy: SoftmaxTable, best: float) -> list[Learning]:
        """θ ← θ + α ∇J/N with each rate α, N = `problem.steps`."""

        @jax.jit
        def run(policy: SoftmaxTable, rate: Array) -> Path:
            def step(policy: SoftmaxTable) -> SoftmaxTable:
                ascent = optax.tree.scale(rate / problem.steps, policy_gradient(problem, policy))
                return eqx.apply_updates(policy, ascent)

            return _follow(problem, policy, step, self.steps)

        return [_learning(run(policy, jnp.asarray(rate)), rate, best) for rate in self.rates]

    def _rows(self, natural: list[Learning], plain: list[Learning]) -> tuple[tuple[Cell, ...], ...]:
        named = [("natural", found) for found in natural] + [("plain, best rate", found) for found in plain]
        return tuple(
            (condition, name, found.rate, self._needed(found), float(found.path.values[self.natural_steps]))
            for condition, (name, found) in zip((*self.conditions, *self.conditions), named, strict=True)
        )

    def _needed(self, found: Learning) -> Cell:
        return f"more than {len(found.path.values) - 1}" if found.needed is None else found.needed

    def _claims(self, natural: list[Learning], plain: list[Learning]) -> tuple[Claim, ...]:
        first = natural[0].path.probabilities
        apart = max(float(np.abs(found.path.probabilities - first).max()) for found in natural)
        slowest = min(len(plain[-1].path.values), plain[-1].needed or np.inf)
        good, quick = plain[0].needed, natural[0].needed
        worst = self.conditions[-1]
        return (
            Claim(
                "The natural gradient takes the same path through the policies in all coordinates, to 1e-6",
                apart <= 1e-6,
                f"probabilities differ by {apart:.1e} at most",
            ),
            Claim(
                f"The plain gradient, at the best of its rates, needs at least 10 times as many steps at "
                f"condition number {worst:g} as at 1",
                good is not None and slowest >= 10 * good,
                f"{self._needed(plain[-1])} against {self._needed(plain[0])}",
            ),
            Claim(
                "The natural gradient needs fewer steps than the plain one at its best, also in the table "
                "itself",
                quick is not None and (good is None or quick < good),
                f"{self._needed(natural[0])} against {self._needed(plain[0])}",
            ),
        )

    def _draw(
        self,
        title: str,
        problem: Problem,
        natural: list[Learning],
        plain: list[list[Learning]],
        chosen: list[Learning],
    ) -> Figure:
        figure, (values, rates, plane) = panels(title, 3)
        for condition, found, colour in zip(self.conditions, chosen, COLOURS[1:], strict=False):
            label = f"plain, condition {condition:g}"
            curve = found.path.values
            values.semilogx(np.arange(1, len(curve) + 1), curve, color=colour, label=label, linewidth=1.3)
        for i, found in enumerate(natural):
            curve = found.path.values
            label = None if i else "natural, every condition"
            values.semilogx(np.arange(1, len(curve) + 1), curve, "o-", color=COLOURS[0], label=label, ms=3)
        values.set(title="Each at its best rate", xlabel="steps + 1", ylabel="J")
        values.margins(y=0.3)
        values.legend(frameon=False, fontsize=7.5, ncols=2, loc="upper left")

        for condition, tried, colour in zip(self.conditions, plain, COLOURS[1:], strict=False):
            needed = [found.needed or self.steps for found in tried]
            rates.loglog(
                self.rates, needed, "o-", color=colour, markersize=4, label=f"condition {condition:g}"
            )
        needed = natural[0].needed
        if needed is not None:
            rates.axhline(needed, color=COLOURS[0], label="natural, every condition")
        rates.axhline(self.steps, color=COLOURS[-1], linewidth=0.8, linestyle="--", label="given up")
        rates.set_ylim(1)
        rates.set(title="Steps to 95% by the plain gradient's rate", xlabel="rate", ylabel="steps")
        rates.legend(frameon=False, fontsize=7.5, loc="lower left", bbox_to_anchor=(0.0, 0.16))
        _draw_plane(plane, problem, natural[0], chosen, self.conditions)
        return figure


def rescaling(random: np.random.Generator, condition: float) -> np.ndarray:
    """M: a random rotation for each state's two logits, the second one's divided by `condition`."""
    first, second = (np.linalg.qr(random.normal(size=(2, 2)))[0] for _ in range(2))
    return np.block([[first, np.zeros((2, 2))], [np.zeros((2, 2)), second / condition]])


def _follow(problem: Problem, policy: SoftmaxTable, step, count: int) -> Path:
    def turn(policy: SoftmaxTable, _: None) -> tuple[SoftmaxTable, Path]:
        probabilities = action_probabilities(problem, policy)
        return step(policy), Path(probabilities, solve(problem, probabilities).value)

    return jax.lax.scan(turn, policy, length=count + 1)[1]


def _learning(path: Path, rate: float, best: float) -> Learning:
    path = jax.tree.map(np.asarray, path)
    enough = path.values >= path.values[0] + _CLOSED * (best - path.values[0])
    return Learning(path, rate, int(np.argmax(enough)) if enough.any() else None)


def _draw_plane(
    axes: Axes,
    problem: Problem,
    natural: Learning,
    plain: list[Learning],
    conditions: tuple[float, ...],
) -> None:
    """The policies are a plane here: the probability of staying, in each of the two states."""
    grid = np.linspace(0.0, 1.0, 41)
    stays = jnp.stack(jnp.meshgrid(jnp.asarray(grid), jnp.asarray(grid)), axis=-1).reshape(-1, 2)
    tables = jnp.stack([stays, 1.0 - stays], axis=-1)
    # One after another: see `exact` on batches of linear systems.
    heights = jax.lax.map(lambda table: solve(problem, table).value, tables).reshape(41, 41)
    axes.contour(grid, grid, heights, levels=16, colors=COLOURS[-1], linewidths=0.6)
    for condition, found, colour in zip(conditions, plain, COLOURS[1:], strict=False):
        path = found.path.probabilities[: found.needed and found.needed + 1, :, 0]
        axes.plot(*path.T, color=colour, linewidth=1.2, label=f"plain, condition {condition:g}")
    path = natural.path.probabilities[..., 0]
    axes.plot(*path.T, "o-", color=COLOURS[0], markersize=3, label="natural")
    axes.plot(*path[0], "s", color="black", markersize=5, label="start")
    axes.set(title="Paths; contours of J", xlabel="π(stay | first state)", ylabel="π(stay | second state)")
    axes.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize=7.5, loc="center left")
