"""Parameter roles, with policies that are defined here, as a user would."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, PyTree

from support.samples import categorical_policy
from surefoot.networks import MLP
from surefoot.options import UserError
from surefoot.policies import AbstractPolicy, NormalisedPolicy, partition_by_role, with_role
from surefoot.theory.distributions import Categorical
from surefoot.theory.statistics import RunningStatistics

STATISTICS = RunningStatistics(jnp.array(4.0), jnp.array([1.0, -10.0]), jnp.array([16.0, 1.0]))


class OnlyHeadAdapts(AbstractPolicy):
    """A body that inner steps keep, and a head that they change (ANIL)."""

    body: Array
    head: MLP
    steps: Array
    """Not a parameter: a whole number."""

    def __call__(self, observations: Array) -> Categorical:
        return Categorical(self.head(jnp.tanh(observations @ self.body)))

    def roles(self) -> PyTree:
        return eqx.tree_at(lambda p: p.head, with_role(self, "shared"), with_role(self.head, "adapted"))


class WithContext(AbstractPolicy):
    """A context vector that joins the observation (CAVIA)."""

    network: MLP
    context: Array
    missing: None = None

    def __call__(self, observations: Array) -> Categorical:
        context = jnp.broadcast_to(self.context, (*observations.shape[:-1], *self.context.shape))
        return Categorical(self.network(jnp.concatenate([observations, context], axis=-1)))

    def roles(self) -> PyTree:
        return eqx.tree_at(lambda p: p.context, with_role(self, "shared"), "context")


def only_head() -> OnlyHeadAdapts:
    head = MLP((jnp.full((3, 2), 2.0),), (jnp.full(2, 3.0),), "tanh")
    return OnlyHeadAdapts(jnp.full((2, 3), 1.0), head, jnp.array(7))


def with_context() -> WithContext:
    return WithContext(MLP((jnp.full((5, 2), 1.0),), (jnp.full(2, 2.0),), "tanh"), jnp.full(3, 4.0))


def values(tree: PyTree) -> set[float]:
    """The first number of every leaf; every leaf here holds one number only."""
    return {float(jnp.ravel(leaf)[0]) for leaf in jax.tree.leaves(tree)}


def test_every_parameter_is_adapted_unless_the_policy_says_otherwise():
    policy = categorical_policy()
    assert set(jax.tree.leaves(policy.roles())) == {"adapted"}
    assert jax.tree.structure(policy.roles()) == jax.tree.structure(policy)
    selected, rest = partition_by_role(policy, "adapted")
    assert eqx.tree_equal(selected, policy)
    assert jax.tree.leaves(rest) == []


@pytest.mark.parametrize(
    ("policy", "roles", "selected", "rest"),
    [
        (only_head(), ["adapted"], {2.0, 3.0}, {1.0, 7.0}),
        (only_head(), ["shared"], {1.0}, {2.0, 3.0, 7.0}),
        (only_head(), ["shared", "adapted"], {1.0, 2.0, 3.0}, {7.0}),
        (only_head(), ["context"], set(), {1.0, 2.0, 3.0, 7.0}),
        (only_head(), [], set(), {1.0, 2.0, 3.0, 7.0}),
        (with_context(), ["context"], {4.0}, {1.0, 2.0}),
        (with_context(), ["adapted", "context"], {4.0}, {1.0, 2.0}),
        (with_context(), ["shared"], {1.0, 2.0}, {4.0}),
    ],
)
def test_the_leaves_with_these_roles_are_selected(
    policy: AbstractPolicy, roles: list[Any], selected: set[float], rest: set[float]
):
    chosen, others = partition_by_role(policy, *roles)
    assert (values(chosen), values(others)) == (selected, rest)
    assert eqx.tree_equal(eqx.combine(chosen, others), policy)


@pytest.mark.parametrize("policy", [only_head(), with_context(), categorical_policy()])
def test_a_wrapper_passes_on_the_roles_and_shares_its_statistics(policy: AbstractPolicy):
    wrapped = NormalisedPolicy(NormalisedPolicy(policy, STATISTICS, 5.0), STATISTICS, 5.0)
    roles = wrapped.roles()
    assert isinstance(roles, NormalisedPolicy)
    assert eqx.tree_equal(roles.policy.policy, policy.roles())
    assert set(jax.tree.leaves((roles.statistics, roles.policy.statistics))) == {"shared"}
    for role in ("adapted", "context"):
        chosen, others = partition_by_role(wrapped, role)
        assert eqx.tree_equal(chosen.policy.policy, partition_by_role(policy, role)[0])
        assert jax.tree.leaves((chosen.statistics, chosen.policy.statistics)) == []
        assert eqx.tree_equal(eqx.combine(chosen, others), wrapped)


def test_a_gradient_in_the_selected_leaves_leaves_the_others_alone():
    policy = with_context()
    observations = jnp.array([[0.5, -1.0]])

    def loss(context: WithContext, rest: WithContext) -> Array:
        return eqx.combine(context, rest)(observations).log_prob(jnp.array([1])).sum()

    @eqx.filter_jit
    def adapted(policy: WithContext) -> WithContext:
        selected, rest = partition_by_role(policy, "context")
        gradient = jax.grad(loss)(selected, rest)
        return eqx.combine(jax.tree.map(lambda x, g: x + 1.0 + g, selected, gradient), rest)

    stepped = adapted(policy)
    assert eqx.tree_equal(stepped.network, policy.network)
    np.testing.assert_allclose(stepped.context, policy.context + 1.0, atol=1e-6)  # both logits are equal


class Mistaken(OnlyHeadAdapts):
    answer: Any = eqx.field(static=True, default=None)

    def roles(self) -> PyTree:
        return self.answer(self)


@pytest.mark.parametrize(
    "answer",
    [
        lambda policy: jax.tree.map(lambda _: "share", with_role(policy, "shared")),  # not a role
        lambda policy: with_role(policy.head, "adapted"),  # of another structure
        lambda policy: eqx.tree_at(lambda p: p.body, with_role(policy, "adapted"), None),  # one is missing
    ],
)
def test_roles_that_are_wrong_or_missing_are_an_error(answer: Any):
    policy = Mistaken(*jax.tree.leaves(only_head())[:1], only_head().head, jnp.array(7), answer)
    with pytest.raises(UserError, match=r"(?s)roles of Mistaken .* shared, adapted, context"):
        partition_by_role(policy, "adapted")
