"""Tabular MDPs small enough to compute everything exactly, and softmax policies for them."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from surefoot.envs.tabular_mdp import MDP, TabularMDP
from surefoot.options import Bound, check
from surefoot.policies import AbstractPolicy
from surefoot.theory.distributions import Categorical
from surefoot.types import Key

ShortHorizon = Bound(lambda horizon: 2 <= horizon <= 6, "from 2 to 6, to list all trajectories")
"""The horizons for which an experiment can list every trajectory of the chain."""


class Problem(eqx.Module):
    """An MDP with its start distribution, discount and horizon. The return is J = E[Σ_{t<T} γᵗ r_t].

    Raises `UserError` if the discount or the horizon is out of its range.
    """

    mdp: MDP
    start: Float[Array, " states"]
    """P(s_0 = s)."""
    discount: float = eqx.field(static=True, default=1.0)
    """γ."""
    horizon: int | None = eqx.field(static=True, default=None)
    """T, the length of every episode; None if episodes never end, which needs γ < 1."""

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
        """The discounted number of steps, Σ_{t<T} γᵗ: T without a discount, 1/(1 − γ) without an end."""
        if self.horizon is None:
            return 1.0 / (1.0 - self.discount)
        return sum(self.discount**t for t in range(self.horizon))

    @property
    def discounts(self) -> Float[Array, " time"]:
        """γ_t: the discount, and zero at the last step of an episode."""
        steps = self.horizon or 0
        return jnp.where(jnp.arange(steps) < steps - 1, self.discount, 0.0).astype(self.start.dtype)

    @property
    def discount_powers(self) -> Float[Array, " time"]:
        """γᵗ, the weight of each step of an episode in J."""
        return jnp.asarray([self.discount**t for t in range(self.horizon or 0)], self.start.dtype)

    @property
    def observations(self) -> Float[Array, "states states"]:
        """The observation of each state: the state, one-hot."""
        return jnp.eye(self.states, dtype=self.mdp.rewards.dtype)


class Episodes(eqx.Module):
    """Episodes of full length, sampled with a policy or listed."""

    states: Int[Array, "*n time"]
    actions: Int[Array, "*n time"]
    rewards: Float[Array, "*n time"]


class SoftmaxTable(AbstractPolicy):
    """A softmax policy with a logit for each state and action.

    The logits are the parameters θ, or M θ with a fixed matrix M: the same policies in other coordinates. An
    M with a large condition number makes them badly scaled. Observations are one-hot.
    """

    table: Float[Array, "states actions"]
    """θ."""
    mixing: tuple[tuple[float, ...], ...] | None = eqx.field(static=True, default=None)
    """M, over the flattened table; None for the identity."""

    @property
    def logits(self) -> Float[Array, "states actions"]:
        if self.mixing is None:
            return self.table
        matrix = jnp.asarray(self.mixing, self.table.dtype)
        return (matrix @ self.table.reshape(-1)).reshape(self.table.shape)

    @property
    def distributions(self) -> Categorical:
        """The distribution of the action in each state, `[states]`."""
        return self(jnp.eye(len(self.table), dtype=self.table.dtype))

    @property
    def probabilities(self) -> Float[Array, "states actions"]:
        """π(a|s)."""
        return jax.nn.softmax(self.distributions.logits)

    @property
    def scores(self) -> Float[Array, "states actions parameters"]:
        """∇log π(a|s) over the flattened parameters."""

        def log_probs(table: Array) -> Array:
            return jax.nn.log_softmax(replace(self, table=table).distributions.logits)

        return jax.jacobian(log_probs)(self.table).reshape(*self.table.shape, -1)

    def __call__(self, observations: Float[Array, "*batch obs"]) -> Categorical:
        return Categorical(observations @ self.logits)


def reparametrised(policy: SoftmaxTable, mixing: np.ndarray) -> SoftmaxTable:
    """The same policy with the parameters θ' = M⁻¹ z, where z are its logits and M is `mixing`."""
    logits = np.asarray(policy.logits)
    table = np.linalg.solve(mixing, logits.reshape(-1)).reshape(logits.shape)
    rows = tuple(tuple(float(x) for x in row) for row in mixing)
    return SoftmaxTable(jnp.asarray(table, policy.table.dtype), rows)


def chain(horizon: int | None = 3, discount: float = 0.9, *, states: int = 3) -> Problem:
    """States in a row and the actions left and right. One move in ten goes the other way.

    Episodes start in the first state. Going left there earns 0.2, going right in the last state earns 1, and
    all else nothing. With three states a short episode has few enough trajectories to list them all.
    """
    place = np.arange(states)
    left, right = np.eye(states)[np.maximum(place - 1, 0)], np.eye(states)[np.minimum(place + 1, states - 1)]
    transitions = np.stack([0.9 * left + 0.1 * right, 0.1 * left + 0.9 * right], axis=1)
    rewards = np.zeros((states, 2))
    rewards[0, 0], rewards[-1, 1] = 0.2, 1.0
    mdp = MDP(jnp.asarray(transitions, float), jnp.asarray(rewards, float))
    return Problem(mdp, jnp.asarray(np.eye(states)[0], float), discount, horizon)


def chain_policy() -> SoftmaxTable:
    """A policy for the chain of three states that is neither uniform nor the same in all states."""
    return SoftmaxTable(jnp.array([[0.4, -0.4], [0.0, 0.3], [-0.5, 0.2]]))


def two_states(horizon: int | None = None, discount: float = 0.9) -> Problem:
    """Two states with the actions stay and cross. Staying earns 1 in the first state and 2 in the second,
    crossing nothing (Kakade, 2002, sec. 5)."""
    stay, cross = np.eye(2), np.eye(2)[::-1]
    rewards = np.array([[1.0, 0.0], [2.0, 0.0]])
    mdp = MDP(jnp.asarray(np.stack([stay, cross], axis=1), float), jnp.asarray(rewards, float))
    return Problem(mdp, jnp.array([0.8, 0.2]), discount, horizon)


def random_problem(
    key: Key, *, states: int = 4, actions: int = 3, horizon: int | None = None, discount: float = 0.9
) -> Problem:
    """A random task of the environment `tabular-mdp`. Episodes start in state 0."""
    tasks = TabularMDP(states=states, actions=actions).sample_tasks(key, 1)
    start = jax.nn.one_hot(0, states, dtype=tasks.rewards.dtype)
    return Problem(jax.tree.map(lambda x: x[0], tasks), start, discount, horizon)


def random_policy(key: Key, problem: Problem) -> SoftmaxTable:
    """A table of standard normal logits."""
    return SoftmaxTable(jax.random.normal(key, (problem.states, problem.actions)))
