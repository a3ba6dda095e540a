"""Three identities: to maximise the surrogate less a price on change is three methods, by the price."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from surefoot.lab.base import COLOURS, AbstractExperiment, Cell, Claim, Result, panels
from surefoot.lab.exact import Steps, policy_iteration, steps_of
from surefoot.lab.optima import (
    OBJECTIVE,
    Setup,
    dense_model,
    penalised_optimum,
    stationarity,
    surrogate_gradient,
    unconstrained_values,
)
from surefoot.lab.problems import SoftmaxTable, action_probabilities, chain, random_policy, random_problem
from surefoot.options import check
from surefoot.rules import AbstractRule, GradientStep, NaturalGradient
from surefoot.theory.objectives import AbstractObjective

_NATURAL = NaturalGradient(lr=1.0, damping=0.0, cg_iterations=100, cg_tolerance=1e-14)


class Euclidean(AbstractObjective):
    """`Expectation` with another divergence: ½ ‖θ_new − θ_old‖², whose Hessian is the identity."""

    def predict(self, policy: PyTree, batch: Steps) -> PyTree:
        """The distributions, and the parameters themselves."""
        return OBJECTIVE.predict(policy, batch), policy

    def loss(self, prediction: PyTree, batch: Steps) -> Float[Array, ""]:
        return OBJECTIVE.loss(prediction[0], batch)

    def divergence(self, old: PyTree, new: PyTree, batch: Steps) -> Float[Array, ""]:
        del batch
        return 0.5 * jnp.sum((ravel_pytree(new[1])[0] - ravel_pytree(old[1])[0]) ** 2)

    def average(self, f, batch):
        return f(batch)


@dataclass(frozen=True)
class Distances:
    """How far the penalised optimum is from each method, for each β."""

    natural: np.ndarray
    """KL penalty: from the natural gradient step of rate 1/β; in probabilities, over the change's length."""
    greedy: np.ndarray
    """KL penalty: from the step of policy iteration, the largest total variation in a state."""
    plain: np.ndarray
    """Euclidean penalty: from the gradient step of rate 1/β, over its length; in parameters. Not a number
    where β < 1, where the optimum is not sought."""


@dataclass(frozen=True)
class Rounds:
    """J of the first policy and after each round, up to the optimal one."""

    iteration: list[float]
    """Policy iteration."""
    unconstrained: list[float]
    """The policy that maximises the surrogate, over and over."""

    def apart(self) -> float:
        """The largest difference; infinite where one took more rounds than the other."""
        if len(self.iteration) != len(self.unconstrained):
            return float("inf")
        return float(np.abs(np.subtract(self.iteration, self.unconstrained)).max())


@dataclass(frozen=True)
class Identities(AbstractExperiment):
    """Three identities: Fisher penalty = natural gradient, Euclidean penalty = plain gradient, no constraint
    = policy iteration.

    A policy maximises the surrogate L(θ') less a price β D(θ, θ') on leaving the old one. With gᵀs for L and
    ½ sᵀFs for D, its step is F⁻¹g/β, the natural gradient's (Kakade, 2002); with ½ ‖s‖² for D it is g/β, the
    plain gradient's; and with β = 0 it is the greedy policy, policy iteration's (Schulman et al., 2015,
    sec. 7). Without the approximations, with L itself and D the mean KL or ½ ‖s‖², the same holds as β → ∞
    and as β → 0. (In a table an endless natural step is greedy too; Kakade, 2002, theorem 2.)
    """

    states: int = 8
    actions: int = 3
    discount: float = 0.95
    prices: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-10, 9))
    """β, ascending."""

    def __post_init__(self) -> None:
        check(len(self.prices) > 2, "prices", self.prices, "three or more")
        check(self.prices[0] > 0, "prices", self.prices, "positive numbers")

    def measure(self, seed: int) -> Result:
        setup = self.start(seed)
        optima = [penalised_optimum(setup, beta) for beta in self.prices]
        distances = self.distances(setup, optima)
        rounds = self.improve_without_constraint(seed)
        title = "Three identities: maximise the surrogate less β × divergence"
        columns = (
            "β",
            "KL: off the natural step",
            "KL: off policy iteration",
            "Euclidean: off the gradient step",
        )
        return Result(
            title,
            columns,
            self._rows(distances),
            self._draw(title, setup, optima, distances, rounds),
            self._claims(setup, optima, distances, rounds),
        )

    def _rows(self, distances: Distances) -> tuple[tuple[Cell, ...], ...]:
        table = zip(self.prices, distances.natural, distances.greedy, distances.plain, strict=True)
        return tuple(tuple("" if np.isnan(x) else float(x) for x in row) for row in table)

    def start(self, seed: int) -> Setup:
        problem_key, policy_key = jax.random.split(jax.random.key(seed))
        problem = random_problem(
            problem_key, states=self.states, actions=self.actions, discount=self.discount
        )
        policy = random_policy(policy_key, problem)
        batch = steps_of(problem, policy)
        return Setup(
            problem=problem,
            policy=policy,
            batch=batch,
            probabilities=np.asarray(action_probabilities(problem, policy)),
            natural=step_of(_NATURAL, OBJECTIVE, policy, batch),
            plain=step_of(GradientStep(lr=1.0), OBJECTIVE, policy, batch),
        )

    def improve_without_constraint(self, seed: int) -> Rounds:
        """In a chain that starts anywhere, which takes several rounds: the news of the reward at its end
        travels a few states a round."""
        problem = chain(None, states=self.states)
        problem = replace(problem, start=jnp.full_like(problem.start, 1.0 / self.states))
        policy = random_policy(jax.random.key(seed), problem)
        probabilities = action_probabilities(problem, policy)
        history = policy_iteration(problem, probabilities)
        iteration = [float(exact.value) for exact in history]
        return Rounds(iteration, unconstrained_values(problem, probabilities))

    def distances(self, setup: Setup, optima: list[np.ndarray]) -> Distances:
        old, batch = setup.probabilities, setup.batch
        table = np.asarray(setup.policy.table)
        best = np.eye(self.actions)[np.argmax(np.asarray(batch.gains), axis=-1)]
        gradient = surrogate_gradient(setup)

        def off_natural(beta: float, optimum: np.ndarray) -> float:
            step = _softmax(table + setup.natural / beta) - old
            return float(np.linalg.norm(optimum - old - step) / np.linalg.norm(optimum - old))

        def off_plain(beta: float) -> float:
            # In units of 1/β the optimum's step u solves u = ∇L(θ + u/β).
            found = scipy.optimize.root(lambda u: u - gradient(u / beta), gradient(np.zeros(old.size)))
            assert found.success, found.message
            return float(np.linalg.norm(found.x - setup.plain.reshape(-1)) / np.linalg.norm(setup.plain))

        pairs = list(zip(self.prices, optima, strict=True))
        return Distances(
            natural=np.array([off_natural(beta, optimum) for beta, optimum in pairs]),
            greedy=np.array([0.5 * np.abs(x - best).sum(axis=-1).max() for x in optima]),
            plain=np.array([off_plain(beta) if beta >= 1 else np.nan for beta in self.prices]),
        )

    def _claims(
        self, setup: Setup, optima: list[np.ndarray], distances: Distances, rounds: Rounds
    ) -> tuple[Claim, ...]:
        gradient, fisher = dense_model(setup)
        natural = np.linalg.pinv(fisher, hermitian=True) @ gradient
        euclidean = step_of(_NATURAL, Euclidean(), setup.policy, setup.batch)
        return (
            _close(
                "Fisher penalty: what maximises gᵀs − ½β sᵀFs, by the dense Fisher matrix, is the natural "
                "gradient step of rate 1/β, to 1e-6",
                _apart(natural, setup.natural),
                1e-6,
            ),
            _close(
                "Euclidean penalty: what maximises gᵀs − ½β ‖s‖² is the gradient step of rate 1/β, to 1e-9",
                _apart(gradient, setup.plain),
                1e-9,
            ),
            _close(
                "The natural gradient in the Euclidean metric is the plain gradient, to 1e-9",
                _apart(euclidean, setup.plain),
                1e-9,
            ),
            _close(
                "No constraint: maximising the surrogate, by linear programming, over and over, goes through "
                "the values of policy iteration to the optimal one, to 1e-6",
                rounds.apart(),
                1e-6,
            ),
            _close(
                "The optimum under the KL penalty, in closed form, is stationary for loss + β divergence, to "
                "1e-8",
                stationarity(setup, self.prices, optima),
                1e-8,
            ),
            self._limit("KL penalty, β → ∞: natural gradient", distances.natural, at=-1),
            self._limit("Euclidean penalty, β → ∞: plain gradient", distances.plain, at=-1),
            self._limit("KL penalty, β → 0: policy iteration", distances.greedy, at=0),
        )

    def _limit(self, name: str, distance: np.ndarray, at: int) -> Claim:
        end, before = distance[at], distance[at - 1 if at else 1]
        return Claim(
            f"{name}: within 0.1% at β = {self.prices[at]:g}, and nearer than at the β before",
            bool(end <= 1e-3 and end < before),
            f"off by {end:.1e}, and by {before:.1e} there",
        )

    def _draw(
        self, title: str, setup: Setup, optima: list[np.ndarray], distances: Distances, rounds: Rounds
    ) -> Figure:
        figure, (limits, path, values) = panels(title, 3)
        limits.loglog(self.prices, distances.natural, color=COLOURS[0], label="KL: off the natural step")
        limits.loglog(self.prices, distances.greedy, color=COLOURS[1], label="KL: off policy iteration")
        limits.loglog(
            self.prices, distances.plain, color=COLOURS[2], label="Euclidean: off the gradient step"
        )
        limits.set(title="One problem, three methods", xlabel="β", ylabel="distance")
        limits.legend(frameon=False, fontsize=7.5)
        self._draw_path(path, setup, optima)
        values.plot(
            rounds.iteration, "o-", color=COLOURS[1], label="policy iteration", markersize=9, alpha=0.4
        )
        values.plot(rounds.unconstrained, "x--", color=COLOURS[0], label="surrogate, no constraint")
        values.set(
            title="A chain, no constraint", xlabel="round", ylabel="J", xticks=range(len(rounds.iteration))
        )
        values.legend(frameon=False, loc="lower right")
        return figure

    def _draw_path(self, axes: Axes, setup: Setup, optima: list[np.ndarray]) -> None:
        """Two actions' probabilities as β falls, in the state whose policy changes most."""
        old, table, greedy = setup.probabilities, np.asarray(setup.policy.table), optima[0]
        state = int(np.argmax(np.abs(greedy - old).sum(axis=-1)))
        actions = np.argsort(-greedy[state] - old[state])[:2]
        rates = np.logspace(-3, 2, 60)[:, None, None]
        curves = {
            "KL penalty, β from ∞ to 0": (np.stack([*optima, old]), COLOURS[1], "-"),
            "natural steps of growing rate": (_softmax(table + rates * setup.natural), COLOURS[0], "--"),
            "gradient steps of growing rate": (_softmax(table + rates * setup.plain), COLOURS[2], "--"),
        }
        for label, (policies, colour, style) in curves.items():
            axes.plot(*policies[:, state, actions].T, style, color=colour, label=label)
        axes.plot(*old[state, actions], "s", color="black", markersize=5, label="old policy", zorder=4)
        axes.plot(*greedy[state, actions], "*", color="black", markersize=10, label="greedy policy", zorder=4)
        axes.plot([0, 1], [1, 0], color=COLOURS[-1], linewidth=0.8)
        axes.set(title="Policies in one state", xlabel="π(best action)", ylabel="π(another)")
        axes.legend(frameon=False, fontsize=7.5)


def step_of(
    rule: AbstractRule, objective: AbstractObjective, policy: SoftmaxTable, batch: Steps
) -> np.ndarray:
    """What one step of a rule adds to the table."""
    new, _, _ = jax.jit(lambda policy: rule.step(objective, policy, batch, rule.init(policy)))(policy)
    return np.asarray(new.table - policy.table)


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.softmax(jnp.asarray(logits)))


def _apart(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found.reshape(-1) - expected.reshape(-1)) / np.linalg.norm(expected))


def _close(statement: str, distance: float, tolerance: float) -> Claim:
    return Claim(statement, distance <= tolerance, f"off by {distance:.1e}")
