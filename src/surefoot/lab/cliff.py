"""Lanes beside a cliff."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from surefoot.envs.tabular_mdp import MDP
from surefoot.lab.exact import solve
from surefoot.lab.problems import Problem, SoftmaxTable
from surefoot.lab.sampling import draw
from surefoot.policies.categorical import CategoricalMLPPolicy
from surefoot.theory.returns import reward_to_go
from surefoot.types import Batch, Key


class Cliff(eqx.Module):
    """Lanes beside a cliff, in which going forward earns more the nearer the edge is.

    Lane 0 is the edge. The actions are forward, which earns (n − lane) / n in one of n lanes, towards the
    edge, and away from it; the last two earn nothing. With probability `wind` a step is carried one lane
    further towards the edge. Over the edge an episode earns nothing more. It starts in the last lane.
    """

    problem: Problem
    lanes: int = eqx.field(static=True)

    @classmethod
    def of(cls, lanes: int, horizon: int, wind: float) -> "Cliff":
        transitions, rewards = np.zeros((lanes + 1, 3, lanes + 1)), np.zeros((lanes + 1, 3))
        for lane in range(lanes):
            for action, move in enumerate((0, -1, 1)):
                for carried, chance in ((0, 1 - wind), (-1, wind)):
                    end = min(lane + move + carried, lanes - 1)
                    transitions[lane, action, end if end >= 0 else lanes] += chance
            rewards[lane, 0] = (lanes - lane) / lanes
        transitions[lanes, :, lanes] = 1.0
        start = jnp.asarray(np.eye(lanes + 1)[lanes - 1])
        mdp = MDP(jnp.asarray(transitions), jnp.asarray(rewards))
        return cls(Problem(mdp, start, 1.0, horizon), lanes)

    @property
    def observations(self) -> Float[Array, "states 1"]:
        """One number for each state: the lane, from −1 to 1. So all lanes share the network's parameters."""
        return jnp.linspace(-1.0, 1.0, self.lanes + 1)[:, None]

    def batch(self, policy: CategoricalMLPPolicy, key: Key, episodes: int) -> Batch:
        """Sampled episodes, with each return less the mean return of the other episodes at the same time."""
        log_probs = jax.nn.log_softmax(policy.network(self.observations))
        found = draw(self.problem, SoftmaxTable(log_probs), key, (episodes,))
        returns = jax.vmap(lambda rewards: reward_to_go(rewards, self.problem.discounts))(found.rewards)
        others = (jnp.sum(returns, axis=0) - returns) / (episodes - 1)
        steps = Batch(
            self.observations[found.states],
            found.actions,
            log_probs[found.states, found.actions],
            returns - others,
            found.states < self.lanes,
        )
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)

    def value(self, policy: CategoricalMLPPolicy) -> Float[Array, ""]:
        """The exact expected return."""
        return solve(self.problem, jax.nn.softmax(policy.network(self.observations))).value

    def divergences(self, old: CategoricalMLPPolicy, new: CategoricalMLPPolicy) -> Float[Array, " 2"]:
        """KL(old ‖ new): the mean over the old policy's steps, and the largest of the lanes it visits."""
        kl = old(self.observations).kl(new(self.observations))
        visits = solve(self.problem, jax.nn.softmax(old.network(self.observations))).state_distribution
        visits = visits.at[self.lanes].set(0.0)
        mean = jnp.sum(visits * kl) / jnp.sum(visits)
        return jnp.stack([mean, jnp.max(jnp.where(visits > 1e-3, kl, 0.0))])
