"""The problems of the laboratory: tabular MDPs small enough to know all about them, and policies for them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from surefoot.envs.tabular_mdp import MDP, TabularMDP
from surefoot.options import check
from surefoot.policies import AbstractPolicy
from surefoot.theory.distributions import Categorical
from surefoot.types import Key

Matrix = tuple[tuple[float, ...], ...]


class Problem(eqx.Module):
    """An MDP, where its episodes start and what counts: J = E[Σ_{t<T} γᵗ r_t]."""

    mdp: MDP
    start: Float[Array, " states"]
    """P(s_0 = s)."""
    discount: float = eqx.field(static=True, default=1.0)
    """γ."""
    horizon: int | None = eqx.field(static=True, default=None)
    """T, the length of every episode; None where it never ends, which needs γ < 1."""

    def __check_init__(self) -> None:
        bound = "at least 0 and below 1 where episodes never end" if self.horizon is None else "from 0 to 1"
        below = self.discount < 1 or (self.discount == 1 and self.horizon is not None)
        check(self.discount >= 0 and below, "discount", self.discount, bound)
        check(self.horizon is None or self.horizon >= 1, "horizon", self.horizon, "1 or more, or None")

    @property
    def states(self) -> int:
        return self.mdp.rewards.shape[0]

    @property
    def actions(self) -> int:
        return self.mdp.rewards.shape[1]

    @property
    def steps(self) -> float:
        """How many steps count, Σ_{t<T} γᵗ: T without a discount, 1/(1 − γ) for ever."""
        if self.horizon is None:
            return 1.0 / (1.0 - self.discount)
        return sum(self.discount**t for t in range(self.horizon))

    @property
    def observations(self) -> Float[Array, "states states"]:
        """What a policy sees in each state: the state, one-hot."""
        return jnp.eye(self.states, dtype=self.mdp.rewards.dtype)


class SoftmaxTable(AbstractPolicy):
    """softmax over the logits of each state, which are the parameters θ, or M θ with a fixed matrix M.

    It takes one-hot observations. M turns the same policies into the values of other coordinates: a badly
    conditioned one makes a badly scaled parametrisation of nothing but a table.
    """

    table: Float[Array, "states actions"]
    """θ."""
    mixing: Matrix | None = eqx.field(static=True, default=None)
    """M, over the flattened table; none for the identity."""

    @property
    def logits(self) -> Float[Array, "states actions"]:
        if self.mixing is None:
            return self.table
        matrix = jnp.asarray(self.mixing, self.table.dtype)
        return (matrix @ self.table.reshape(-1)).reshape(self.table.shape)

    def __call__(self, observations: Float[Array, "*batch obs"]) -> Categorical:
        return Categorical(observations @ self.logits)


def reparametrised(policy: SoftmaxTable, mixing: np.ndarray) -> SoftmaxTable:
    """The same policy in the coordinates θ' = M⁻¹ z, where z are its logits and M is `mixing`, invertible."""
    logits = np.asarray(policy.logits)
    table = np.linalg.solve(mixing, logits.reshape(-1)).reshape(logits.shape)
    rows = tuple(tuple(float(x) for x in row) for row in mixing)
    return SoftmaxTable(jnp.asarray(table, policy.table.dtype), rows)


def action_probabilities(problem: Problem, policy: PyTree) -> Float[Array, "states actions"]:
    """π(a|s) of any categorical policy that takes one-hot observations."""
    return jax.nn.softmax(policy(problem.observations).logits)


def chain(horizon: int | None = 3, discount: float = 0.9, *, states: int = 3) -> Problem:
    """States in a row, left and right, a slip one time in ten; three are few enough to list all that can
    happen.

    Left in the first state, where episodes start, earns 0.2, right in the last one 1: the small reward is at
    hand, the large one at the other end.
    """
    place = np.arange(states)
    left, right = np.eye(states)[np.maximum(place - 1, 0)], np.eye(states)[np.minimum(place + 1, states - 1)]
    transitions = np.stack([0.9 * left + 0.1 * right, 0.1 * left + 0.9 * right], axis=1)
    rewards = np.zeros((states, 2))
    rewards[0, 0], rewards[-1, 1] = 0.2, 1.0
    mdp = MDP(jnp.asarray(transitions, float), jnp.asarray(rewards, float))
    return Problem(mdp, jnp.asarray(np.eye(states)[0], float), discount, horizon)


def two_states(horizon: int | None = None, discount: float = 0.9) -> Problem:
    """Two states, each with a move that stays and one that crosses to the other; staying earns 1 in the first
    state and 2 in the second, crossing nothing (Kakade, 2002, sec. 5)."""
    stay, cross = np.eye(2), np.eye(2)[::-1]
    rewards = np.array([[1.0, 0.0], [2.0, 0.0]])
    mdp = MDP(jnp.asarray(np.stack([stay, cross], axis=1), float), jnp.asarray(rewards, float))
    return Problem(mdp, jnp.array([0.8, 0.2]), discount, horizon)


def random_problem(
    key: Key, *, states: int = 4, actions: int = 3, horizon: int | None = None, discount: float = 0.9
) -> Problem:
    """A random MDP as the environment `tabular-mdp` draws them, started in state 0."""
    tasks = TabularMDP(states=states, actions=actions).sample_tasks(key, 1)
    start = jax.nn.one_hot(0, states, dtype=tasks.rewards.dtype)
    return Problem(jax.tree.map(lambda x: x[0], tasks), start, discount, horizon)


def random_policy(key: Key, problem: Problem, *, scale: float = 1.0) -> SoftmaxTable:
    """A table of normal logits."""
    return SoftmaxTable(scale * jax.random.normal(key, (problem.states, problem.actions)))
