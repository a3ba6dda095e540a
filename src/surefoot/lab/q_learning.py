"""Q-learning beside the policy gradient, and a problem whose best policy is stochastic."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from surefoot.lab.base import CLOSED, AbstractExperiment, Cell, Claim, OneRate, Result, close
from surefoot.lab.exact import policy_iteration, solve
from surefoot.lab.figures import BLUE, GREEN, GREY, RED, Line, Panel
from surefoot.lab.problems import Problem, SoftmaxTable, chain
from surefoot.lab.sampling import draw
from surefoot.options import OpenFraction, Positive, at_least
from surefoot.theory.dynamic_programming import corridor_value, q_learning_error
from surefoot.theory.returns import reward_to_go
from surefoot.types import Key


@dataclass(frozen=True)
class Curve:
    """A method's progress, for each seed and each point at which it was measured."""

    values: Float[np.ndarray, "seeds points"]
    """J of its policy, greedy for Q-learning."""
    errors: Float[np.ndarray, "seeds points"]
    """max |Q − Q*|; NaN for the policy gradient."""

    def needed(self, start: float, best: float) -> np.ndarray:
        """The number of points of each seed until 95% of the gap is closed for good; infinite where it is
        not."""
        enough = self.values >= start + CLOSED * (best - start)
        before = np.sum(np.cumsum(~enough[:, ::-1], axis=1) > 0, axis=1)
        return np.where(enough[:, -1], before + 1.0, np.inf)


def corridor_by_equations(p: float) -> float:
    """V of the corridor's start, from the equations of its three places, V = −1 + M V; in the second place
    the actions are exchanged."""
    moves = np.array([[1 - p, p, 0.0], [p, 0.0, 1 - p], [0.0, 1 - p, 0.0]])
    return float(np.linalg.solve(np.eye(3) - moves, -np.ones(3))[0])


@dataclass(frozen=True)
class QLearning(AbstractExperiment):
    """Q-learning on the data of a policy that acts at random, against the policy gradient on its own data.

    The problem is a chain of states, without an end. Q-learning uses each transition once, and learns
    the values of the best policy from the data of another one. The policy gradient needs data of its own,
    and averages whole returns. Beside it stands a corridor whose places look alike: there a table of values
    has no good policy, and a stochastic one is best.
    """

    states: Annotated[int, at_least(2)] = 6
    """Number of states of the chain."""
    discount: Annotated[float, OpenFraction] = 0.9
    """γ."""
    seeds: Annotated[int, at_least(2)] = 20
    """Number of seeds of each method."""
    points: Annotated[int, at_least(2)] = 60
    """Number of points at which the methods are compared."""
    episodes: Annotated[int, at_least(2)] = 4
    """Episodes of the policy gradient between two points, one gradient step each time."""
    horizon: Annotated[int, at_least(1)] = 50
    """Steps of an episode, after which the discount leaves next to nothing."""
    exponent: Annotated[float, OpenFraction] = 0.6
    """ω: the rate of Q-learning at the n-th visit of a pair is n^−ω."""
    rates: Annotated[tuple[float, ...], Positive, OneRate] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """Rates of the policy gradient; the one with the largest J at the end is compared."""

    def measure(self, seed: int) -> Result:
        problem = chain(self.horizon, self.discount, states=self.states)
        endless = replace(problem, horizon=None)
        uniform = jnp.full_like(problem.mdp.rewards, 0.5)
        best = policy_iteration(endless, uniform)[-1]
        greedy = jax.nn.one_hot(jnp.argmax(best.action_values[0], axis=-1), 2, dtype=uniform.dtype)
        start, optimum = (float(solve(problem, x).value) for x in (uniform, greedy))
        keys = jax.random.split(jax.random.key(seed), self.seeds)
        learned = self.learn_values(problem, best.action_values[0], keys)
        tried = self.follow_gradient(problem, keys)
        chosen = max(range(len(tried)), key=lambda i: tried[i].values[:, -1].mean())
        climbed = tried[chosen]
        rows: list[tuple[Cell, ...]] = [
            (name, rate, float(x.values[:, -1].mean()), self._steps_text(x, start, optimum))
            for name, rate, x in [
                ("Q-learning, data at random", f"n^-{self.exponent:g}", learned),
                *(("policy gradient", f"{r:g}", x) for r, x in zip(self.rates, tried, strict=True)),
            ]
        ]
        columns = ("method", "rate", "J at the end", f"median steps to {CLOSED:.0%}")
        return Result(
            "Q-learning beside the policy gradient",
            columns,
            rows,
            self._panels(learned, climbed, float(self.rates[chosen]), start, optimum),
            self._claims(learned, climbed, best.action_values[0], start, optimum),
        )

    def _steps_text(self, curve: Curve, start: float, best: float) -> Cell:
        """The median over seeds of the environment steps needed, or `more than` the number taken."""
        steps, median = self.episodes * self.horizon, float(np.median(curve.needed(start, best)))
        return round(steps * median) if np.isfinite(median) else f"more than {steps * self.points}"

    def learn_values(self, problem: Problem, best: Float[Array, "states actions"], keys: Array) -> Curve:
        """Q-learning on one stream of transitions of the uniform policy; `best` is Q*."""
        moves, steps = jnp.log(problem.mdp.transitions), self.episodes * self.horizon

        def one_step(carry: tuple[Array, Array, Array], key: Key) -> tuple[tuple[Array, Array, Array], None]:
            q, counts, s = carry
            action_key, state_key = jax.random.split(key)
            a = jax.random.randint(action_key, (), 0, problem.actions)
            following = jax.random.categorical(state_key, moves[s, a])
            counts = counts.at[s, a].add(1.0)
            error = q_learning_error(q[s, a], problem.mdp.rewards[s, a], self.discount, q[following])
            q = q.at[s, a].add(counts[s, a] ** -self.exponent * error)
            return (q, counts, following), None

        def point(carry: tuple[Array, Array, Array], key: Key) -> tuple[tuple, tuple[Array, Array]]:
            carry, _ = jax.lax.scan(one_step, carry, jax.random.split(key, steps))
            policy = jax.nn.one_hot(jnp.argmax(carry[0], axis=-1), problem.actions, dtype=best.dtype)
            return carry, (solve(problem, policy).value, jnp.max(jnp.abs(carry[0] - best)))

        def run(key: Key) -> tuple[Array, Array]:
            state = jnp.argmax(problem.start).astype(jnp.int64)
            start = jnp.zeros_like(best), jnp.zeros_like(best), state
            return jax.lax.scan(point, start, jax.random.split(key, self.points))[1]

        return Curve(*map(np.asarray, jax.jit(jax.vmap(run))(keys)))

    def follow_gradient(self, problem: Problem, keys: Array) -> list[Curve]:
        """θ ← θ + α Σ_t γᵗ (G_t − mean of the other episodes' G_t) ∇log π, averaged over the episodes.

        One curve for each α of `rates`.
        """

        def point(rate: Array, policy: SoftmaxTable, key: Key) -> tuple[SoftmaxTable, Array]:
            found = draw(problem, policy, key, (self.episodes,))
            returns = jax.vmap(lambda rewards: reward_to_go(rewards, problem.discounts))(found.rewards)
            others = (jnp.sum(returns, axis=0) - returns) / (self.episodes - 1)
            credit = problem.discount_powers * (returns - others) / self.episodes
            slope = jnp.einsum("nt,ntp->p", credit, policy.scores[found.states, found.actions])
            policy = replace(policy, table=policy.table + rate * slope.reshape(policy.table.shape))
            return policy, solve(problem, policy.probabilities).value

        def run(rate: Array, key: Key) -> Array:
            policy = SoftmaxTable(jnp.zeros_like(problem.mdp.rewards))
            return jax.lax.scan(partial(point, rate), policy, jax.random.split(key, self.points))[1]

        every = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))
        values = np.asarray(every(jnp.asarray(self.rates), keys))
        return [Curve(x, np.full_like(x, np.nan)) for x in values]

    def _claims(
        self, learned: Curve, climbed: Curve, best: Array, start: float, optimum: float
    ) -> list[Claim]:
        share = float(learned.errors[:, -1].mean() / jnp.max(best))
        most = float(np.max(optimum - learned.values[:, -1]))
        needed = [float(np.median(x.needed(start, optimum))) for x in (learned, climbed)]
        of_values, of_gradient = (self._steps_text(x, start, optimum) for x in (learned, climbed))
        p = np.linspace(0.001, 0.999, 999)
        values = np.array([corridor_by_equations(x) for x in p])
        found = float(p[values.argmax()])
        left, right = map(corridor_by_equations, (0.05, 0.95))
        return [
            Claim(
                "From data of a policy that acts at random, Q-learning comes to Q* within 10% of its maximum",
                bool(share < 0.1),
                f"max |Q − Q*| is {share:.1%} of max Q*, in the mean over seeds",
            ),
            close("Its greedy policy is then optimal for every seed, to 1e-9", most, 1e-9),
            Claim(
                "It needs fewer steps than the policy gradient at the best of its rates",
                bool(needed[0] < needed[1]),
                f"{of_values} against {of_gradient}, in the median over seeds",
            ),
            close(
                "The corridor's best policy goes right with probability 2 − √2", abs(found - 2 + 2**0.5), 1e-3
            ),
            Claim(
                "There the best stochastic policy costs less than a third of a greedy one with 10% of random "
                "actions, whatever that prefers",
                bool(-values.max() < min(-left, -right) / 3),
                f"{values.max():.1f} against {left:.1f} and {right:.1f}",
            ),
        ]

    def _panels(
        self, learned: Curve, climbed: Curve, rate: float, start: float, optimum: float
    ) -> list[Panel]:
        steps = np.arange(1, self.points + 1) * self.episodes * self.horizon
        ends = (0, int(steps[-1]))
        errors = [Line(steps, x, "", GREY) for x in learned.errors]
        errors.append(Line(steps, learned.errors.mean(axis=0), "mean over seeds", BLUE))
        values = [
            Line(steps, learned.values.mean(axis=0), "Q-learning, greedy", BLUE),
            Line(steps, climbed.values.mean(axis=0), f"policy gradient, rate {rate:g}", RED),
            Line(ends, (optimum, optimum), "optimal", GREY, "--"),
            Line(ends, (start, start), "uniform", GREY, ":"),
        ]
        p = np.linspace(0.03, 0.97, 200)
        heights = np.asarray(corridor_value(jnp.asarray(p)))
        best = 2 - 2**0.5
        corridor = [
            Line(p, heights, "stochastic policy", GREEN),
            Line(
                (0.05, 0.95),
                np.asarray(corridor_value(jnp.array([0.05, 0.95]))),
                "greedy, 10% at random",
                RED,
                "s",
            ),
            Line((best,), np.asarray(corridor_value(jnp.array([best]))), "best, p = 2 − √2", BLUE, "o"),
        ]
        seen = "environment steps"
        return [
            Panel("Error of Q-learning", seen, "max |Q − Q*|", errors, {"yscale": "log"}),
            Panel("Return, mean over seeds", seen, "expected return J", values),
            Panel(
                "Corridor: places look alike", "p, probability of going right", "value of the start", corridor
            ),
        ]
