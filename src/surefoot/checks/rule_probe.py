"""What the kit of rules lets a rule improve: a small Gaussian policy on made-up data."""

from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from surefoot.checks.common import attributes
from surefoot.checks.failure import attempt
from surefoot.checks.problem import Stop, error
from surefoot.policies import AbstractPolicy, GaussianMLP
from surefoot.rules import GradientStep
from surefoot.theory.meta import adapted
from surefoot.theory.objectives import AbstractObjective, PolicyObjective, reinforce, surrogate
from surefoot.types import Batch, Continuous, Key, MetaBatch

TASKS = 2
_META_TASKS = 4
_EPISODES, _TIME, _SIZE = 6, 4, 2
_SEED = 7

Stepped = tuple[PyTree, PyTree, Any]


class RuleProbe:
    """Calls a rule's methods with fixed policies and data. Every method may raise `Stop`."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule
        self.before = attributes(rule)
        self.policies, self.batches = _given()
        self.policy, self.batch = self.policies[0], self.batches[0]
        self.objective = PolicyObjective(surrogate)
        self.meta_objective = adapted(
            self.objective, GradientStep(lr=0.1), inner_objective=PolicyObjective(reinforce)
        )

    def init(self, policy: PyTree) -> PyTree:
        """The rule's first state."""
        return attempt("init", self.rule.init, policy)

    @cached_property
    def first(self) -> tuple[PyTree, Stepped]:
        """The first state, and one eager step from it."""
        state = self.init(self.policy)
        return state, self.step(self.objective, self.policy, self.batch, state)

    def step(self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: PyTree) -> Stepped:
        """`step`, whose result is a triple."""
        result = attempt("step", self.rule.step, objective, policy, batch, state)
        if not (isinstance(result, tuple) and len(result) == 3):
            raise Stop(_not_a_triple(result))
        return result

    def compiled(self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: PyTree) -> Stepped:
        """`step` under jit."""
        return attempt("step", eqx.filter_jit(self.step), objective, policy, batch, state)

    def loss(self, policy: PyTree) -> Array:
        """The objective at `policy`."""
        return self.objective.loss(self.objective.predict(policy, self.batch), self.batch)

    def meta_batch(self) -> MetaBatch:
        """Every task adapts on its batch and is judged on the same. The tasks are those of the kit, over and
        over: rules that divide a batch need several."""
        stacked = stack([self.batches[i % TASKS] for i in range(_META_TASKS)])
        return MetaBatch(support=(stacked,), query=stacked)


@cache
def _given() -> tuple[Sequence[AbstractPolicy], Sequence[Batch]]:
    keys = jax.random.split(jax.random.key(_SEED), TASKS)
    policies = [GaussianMLP(hidden=(4,)).build(key, _SIZE, Continuous(_SIZE)) for key in keys]
    return policies, [_batch(policy, key) for policy, key in zip(policies, keys, strict=True)]


def _batch(policy: AbstractPolicy, key: Key) -> Batch:
    """Actions drawn by `policy`, the better the nearer to the observation; some steps are padding."""
    observation_key, action_key = jax.random.split(key)
    observations = jax.random.normal(observation_key, (_EPISODES, _TIME, _SIZE))
    distribution = policy(observations)
    actions = distribution.sample(action_key)
    valid = jnp.ones((_EPISODES, _TIME), bool).at[0, _TIME // 2 :].set(False)
    closeness = -jnp.sum((actions - observations) ** 2, axis=-1)
    advantages = (closeness - jnp.mean(closeness)) / jnp.std(closeness)
    return Batch(observations, actions, distribution.log_prob(actions), advantages, valid)


def stack(trees: Sequence[Any]) -> Any:
    """Trees of one structure, their arrays with a new leading axis."""
    return jax.tree.map(lambda *xs: jnp.stack(xs) if eqx.is_array(xs[0]) else xs[0], *trees)


def _not_a_triple(result: Any) -> Any:
    return error(
        f"`step` returns a {type(result).__name__}, not a triple.",
        "Algorithms take three things from it.",
        "Return (policy, state, metrics); the state may be None.",
    )
