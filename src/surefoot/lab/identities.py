"""Three identities: maximising the surrogate minus a penalty is one of three methods, by the penalty."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from surefoot.lab.base import AbstractExperiment, Ascending, Claim, Result, ThreeOrMore, close, converges
from surefoot.lab.exact import OBJECTIVE, ExactBatch, exact_batch, greedy, policy_iteration
from surefoot.lab.figures import BLUE, GREY, RED, YELLOW, Line, Panel
from surefoot.lab.optima import (
    Setup,
    dense_model,
    penalised_optimum,
    stationarity,
    surrogate_gradient,
    unconstrained_optimum,
)
from surefoot.lab.problems import SoftmaxTable, chain, random_policy, random_problem
from surefoot.options import Positive
from surefoot.rules import AbstractRule, GradientStep, NaturalGradient
from surefoot.theory.objectives import AbstractObjective

_NATURAL = NaturalGradient(lr=1.0, damping=0.0, cg_iterations=100, cg_tolerance=1e-14)

NATURAL = "KL penalty: from the natural step"
GREEDY = "KL penalty: from policy iteration"
PLAIN = "Euclidean penalty: from the gradient step"


class EuclideanSurrogate(AbstractObjective):
    """`ExactSurrogate` with another divergence: ½ ‖θ_new − θ_old‖², whose Hessian is the identity."""

    def predict(self, policy: PyTree, batch: ExactBatch) -> PyTree:
        """The distributions and the parameters."""
        return OBJECTIVE.predict(policy, batch), policy

    def loss(self, prediction: PyTree, batch: ExactBatch) -> Float[Array, ""]:
        return OBJECTIVE.loss(prediction[0], batch)

    def divergence(self, old: PyTree, new: PyTree, batch: ExactBatch) -> Float[Array, ""]:
        del batch
        return 0.5 * jnp.sum((ravel_pytree(new[1])[0] - ravel_pytree(old[1])[0]) ** 2)


@dataclass(frozen=True)
class Measured:
    """The results of one run."""

    setup: Setup
    optima: list[np.ndarray]
    """The optimal policy under the KL penalty, for each β."""
    distances: dict[str, np.ndarray]
    """Its distance from each method, for each β."""
    iteration: list[float]
    """J of the first policy and after each round of policy iteration."""
    unconstrained: list[float]
    """The same when the surrogate is maximised without a constraint, again and again."""


@dataclass(frozen=True)
class Identities(AbstractExperiment):
    """Three identities: Fisher penalty = natural gradient, Euclidean penalty = plain gradient, no constraint
    = policy iteration.

    A policy maximises the surrogate L(θ') minus a penalty β D(θ, θ') for leaving the old policy. With gᵀs for
    L and ½ sᵀFs for D, the step is F⁻¹g/β, the natural gradient's (Kakade, 2002). With ½ ‖s‖² for D it is
    g/β, the plain gradient's. With β = 0 it is the greedy policy, policy iteration's (Schulman et al., 2015,
    sec. 7). Without the approximations, with L itself and the mean KL or ½ ‖s‖² for D, the same holds as
    β → ∞ and as β → 0. (For a table an infinitely long natural step is greedy too; Kakade, 2002, theorem 2.)
    """

    states: int = 8
    """Number of states."""
    actions: int = 3
    """Number of actions."""
    discount: float = 0.95
    """γ."""
    betas: Annotated[tuple[float, ...], Positive, ThreeOrMore, Ascending] = tuple(
        10.0 ** (k / 2) for k in range(-10, 9)
    )
    """β, ascending."""

    def measure(self, seed: int) -> Result:
        found = self.compare(seed)
        columns = zip(self.betas, *found.distances.values(), strict=True)
        rows = [["" if np.isnan(x) else float(x) for x in row] for row in columns]
        title = "Three identities: maximise the surrogate less β × divergence"
        return Result(title, ("β", *found.distances), rows, self._panels(found), self._claims(found))

    def compare(self, seed: int) -> Measured:
        """The penalised optima, their distances from the three methods, and the returns without a penalty."""
        setup = self.start(seed)
        optima = [penalised_optimum(setup, beta) for beta in self.betas]
        return Measured(setup, optima, self.distances(setup, optima), *self.improve_without_constraint(seed))

    def start(self, seed: int) -> Setup:
        """A random problem and policy, and the steps of the rules."""
        problem_key, policy_key = jax.random.split(jax.random.key(seed))
        problem = random_problem(
            problem_key, states=self.states, actions=self.actions, discount=self.discount
        )
        policy = random_policy(policy_key, problem)
        batch = exact_batch(problem, policy)
        return Setup(
            problem=problem,
            policy=policy,
            batch=batch,
            probabilities=np.asarray(policy.probabilities),
            natural=step_of(_NATURAL, OBJECTIVE, policy, batch),
            plain=step_of(GradientStep(lr=1.0), OBJECTIVE, policy, batch),
        )

    def improve_without_constraint(self, seed: int) -> tuple[list[float], list[float]]:
        """The returns of both methods on a chain that starts in any state. They take several rounds: in each
        of them, the reward at the end reaches the values of a few more states."""
        problem = chain(None, states=self.states)
        problem = replace(problem, start=jnp.full_like(problem.start, 1.0 / self.states))
        first = random_policy(jax.random.key(seed), problem).probabilities
        histories = (policy_iteration(problem, first, x) for x in (greedy, unconstrained_optimum))
        iteration, unconstrained = ([float(exact.value) for exact in history] for history in histories)
        return iteration, unconstrained

    def distances(self, setup: Setup, optima: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """The distance of the penalised optimum from three methods, for each β.

        `NATURAL`: from the natural gradient step of rate 1/β, in probabilities, relative to the change.
        `GREEDY`: from the step of policy iteration, the largest total variation in a state. `PLAIN`, with the
        Euclidean penalty: from the gradient step of rate 1/β, in parameters, relative to the step; NaN for
        β < 1, where it is not computed.
        """
        old, table = setup.probabilities, np.asarray(setup.policy.table)
        best = np.eye(self.actions)[np.argmax(np.asarray(setup.batch.gains), axis=-1)]
        gradient = surrogate_gradient(setup)

        def off_natural(beta: float, optimum: np.ndarray) -> float:
            step = _softmax(table + setup.natural / beta) - old
            return float(np.linalg.norm(optimum - old - step) / np.linalg.norm(optimum - old))

        def off_plain(beta: float) -> float:
            # In units of 1/β the optimum's step u solves u = ∇L(θ + u/β).
            found = scipy.optimize.root(lambda u: u - gradient(u / beta), gradient(np.zeros(old.size)))
            assert found.success, found.message
            return _relative_error(found.x, setup.plain)

        return {
            NATURAL: np.array([off_natural(*pair) for pair in zip(self.betas, optima, strict=True)]),
            GREEDY: np.array([0.5 * np.abs(x - best).sum(axis=-1).max() for x in optima]),
            PLAIN: np.array([off_plain(beta) if beta >= 1 else np.nan for beta in self.betas]),
        }

    def _claims(self, found: Measured) -> list[Claim]:
        setup, distances = found.setup, found.distances
        gradient, fisher = dense_model(setup)
        natural = np.linalg.pinv(fisher, hermitian=True) @ gradient
        euclidean = step_of(_NATURAL, EuclideanSurrogate(), setup.policy, setup.batch)
        difference = np.inf
        if len(found.iteration) == len(found.unconstrained):
            difference = float(np.abs(np.subtract(found.iteration, found.unconstrained)).max())
        limits = (
            ("KL penalty, β → ∞: natural gradient", distances[NATURAL][::-1], self.betas[-1]),
            ("Euclidean penalty, β → ∞: plain gradient", distances[PLAIN][::-1], self.betas[-1]),
            ("KL penalty, β → 0: policy iteration", distances[GREEDY], self.betas[0]),
        )
        return [
            close(
                "Fisher penalty: gᵀs − ½β sᵀFs, with the dense Fisher matrix, is largest at the natural "
                "gradient step of rate 1/β, to 1e-6",
                _relative_error(natural, setup.natural),
                1e-6,
            ),
            close(
                "Euclidean penalty: gᵀs − ½β ‖s‖² is largest at the gradient step of rate 1/β, to 1e-9",
                _relative_error(gradient, setup.plain),
                1e-9,
            ),
            close(
                "The natural gradient in the Euclidean metric is the plain gradient, to 1e-9",
                _relative_error(euclidean, setup.plain),
                1e-9,
            ),
            close(
                "No constraint: maximising the surrogate again and again, by linear programming, has the "
                "returns of policy iteration, up to the optimal one, to 1e-6",
                difference,
                1e-6,
            ),
            close(
                "The closed-form optimum under the KL penalty is stationary for loss + β divergence, to 1e-8",
                stationarity(setup, self.betas, found.optima),
                1e-8,
            ),
            *(
                converges(f"{name}: within 0.1% at β = {beta:g}, and nearer than at the next β", errors, 1e-3)
                for name, errors, beta in limits
            ),
        ]

    def _panels(self, found: Measured) -> list[Panel]:
        setup, greedy = found.setup, found.optima[0]
        old, table = setup.probabilities, np.asarray(setup.policy.table)
        # Two actions' probabilities in the state whose policy changes most.
        state = int(np.argmax(np.abs(greedy - old).sum(axis=-1)))
        actions = np.argsort(-greedy[state] - old[state])[:2]
        rates = np.logspace(-3, 2, 60)[:, None, None]
        natural, plain = (_softmax(table + rates * step) for step in (setup.natural, setup.plain))

        def path(policies: np.ndarray, *style: Any) -> Line:
            points = policies[:, state, actions]
            return Line(points[:, 0], points[:, 1], *style)

        paths = [
            path(np.stack([*found.optima, old]), "KL penalty, β from ∞ to 0", RED),
            path(natural, "natural steps, growing rate", BLUE, "--"),
            path(plain, "gradient steps, growing rate", YELLOW, "--"),
            Line((0, 1), (1, 0), "sum of both = 1", GREY),
            path(old[None], "old policy", "black", "s", 5.0),
            path(greedy[None], "greedy policy", "black", "*", 10.0),
        ]
        colours, distances = (BLUE, RED, YELLOW), found.distances
        limits = [Line(self.betas, *x) for x in zip(distances.values(), distances, colours, strict=True)]
        rounds, unconstrained = range(len(found.iteration)), found.unconstrained
        values = [
            Line(rounds, found.iteration, "policy iteration", RED, "o-", 8.0),
            Line(range(len(unconstrained)), unconstrained, "surrogate, no constraint", BLUE, "x--"),
        ]
        log = {"xscale": "log", "yscale": "log"}
        return [
            Panel(
                "The optimum's distance from three methods",
                "β",
                "relative distance; total variation",
                limits,
                log,
            ),
            Panel("Policies in one state", "π(best action)", "π(another)", paths),
            Panel("A chain, no constraint", "round", "J", values, {"xticks": rounds}),
        ]


def step_of(
    rule: AbstractRule, objective: AbstractObjective, policy: SoftmaxTable, batch: ExactBatch
) -> np.ndarray:
    """The change of the table by one step of a rule, `[states actions]`."""

    @jax.jit
    def step(policy: SoftmaxTable, batch: ExactBatch) -> Array:
        return rule.step(objective, policy, batch, rule.init(policy))[0].table - policy.table

    return np.asarray(step(policy, batch))


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.softmax(jnp.asarray(logits)))


def _relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found.reshape(-1) - expected.reshape(-1)) / np.linalg.norm(expected))
