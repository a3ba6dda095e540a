"""ANIL and Meta-SGD, which differ from MAML by the roles of parameters: by hand and by finite differences."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from support.dense import flatten
from support.probes import Target
from support.settings import iterate, policy_for, setting_of
from surefoot.algorithms import ANIL, CAVIA, MAML, MetaSGD, adapt_to_tasks, policy_objective
from surefoot.algorithms.anil import HeadAdapted
from surefoot.algorithms.cavia import ContextPolicy
from surefoot.algorithms.gradient_adapter import inner_part, outer_part
from surefoot.algorithms.meta_sgd import LearnedRates
from surefoot.networks import MLP, MLPOptions
from surefoot.options import UserError
from surefoot.policies import GRU, AbstractPolicy, with_role
from surefoot.rules import GradientStep
from surefoot.theory.distributions import DiagonalGaussian
from surefoot.theory.meta import adapt, adapted
from surefoot.theory.objectives import loss_and_gradient
from surefoot.types import Discrete, MetaBatch, vector

KEY = jax.random.key(5)
INNER = GradientStep(lr=0.3)
METHODS = {"anil": ANIL(INNER, tasks=3), "anil without σ": ANIL(INNER, tasks=3, adapt_std=False)}
METHODS["meta-sgd"] = MetaSGD(INNER, tasks=3, inner_steps=2)
METHODS["cavia"] = CAVIA(INNER, tasks=3, inner_steps=2, context=2)


def begun(algorithm: Any, **options: Any) -> tuple[Any, Any]:
    setting = setting_of(Target(spread=1.0), episodes=4)
    return setting, algorithm.init(
        setting, policy_for(setting, algorithm, hidden=(3,), output_scale=1.0, **options), KEY
    )


def adaptation(setting: Any, algorithm: Any, state: Any) -> Any:
    tasks = setting.sampler.env.sample_tasks(KEY, 3)
    adapter = algorithm.adapter(setting.estimator, state)
    return adapt_to_tasks(setting.sampler, adapter, state.policy, tasks, KEY, algorithm.inner_steps)


@pytest.mark.parametrize("name", METHODS)
def test_the_meta_gradient_is_that_of_finite_differences(name: str, x64: None):
    algorithm = METHODS[name]
    setting, state = begun(algorithm)
    batches = adaptation(setting, algorithm, state).batches
    batch = MetaBatch(batches[:-1], batches[-1])
    surrogate = policy_objective("surrogate")
    objective = adapted(surrogate, INNER, inner_objective=surrogate, chunk=2, split=inner_part)
    vector, build = flatten(state.policy)
    moved = vector + 0.05 * jax.random.normal(KEY, vector.shape, vector.dtype)
    context = {"meta-sgd": lambda p: p.offset, "cavia": lambda p: p.context}.get(name)
    if context is not None:  # it is zero where an adaptation begins
        moved = flatten(eqx.tree_at(context, build(moved), context(state.policy)))[0]

    def loss(v: jax.Array) -> jax.Array:
        return objective.loss(objective.predict(build(v), batch), batch)

    _, gradient = eqx.filter_jit(loss_and_gradient)(objective, build(moved), batch)
    steps = 1e-5 * jnp.eye(len(moved))
    expected = jax.jit(jax.vmap(lambda h: (loss(moved + h) - loss(moved - h)) / 2e-5))(steps)
    np.testing.assert_allclose(flatten(gradient)[0], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("adapts_std", [True, False])
def test_anil_changes_the_last_layer_alone(adapts_std: bool):
    algorithm = ANIL(INNER, tasks=3, adapt_std=adapts_std)
    setting, state = begun(algorithm)
    before, after = (x[0].policy for x in adaptation(setting, algorithm, state).learners)
    changed = jax.tree.map(lambda x, y: bool((x != y).any()), before, after)
    assert changed.network.weights == (False, True)
    assert changed.network.biases == (False, True)
    assert changed.raw_log_std is adapts_std
    rest = eqx.filter(outer_part(state.policy)[1], eqx.is_inexact_array)
    assert not jax.tree.leaves(rest), "the outer rule changes everything"


def test_equal_rates_are_mamls():
    """At first the policies adapt as MAML's do, and where they have adapted twice too."""
    found = []
    for algorithm in (MetaSGD(INNER, tasks=3, inner_steps=2), MAML(INNER, tasks=3, inner_steps=2)):
        setting, state = begun(algorithm)
        learners = adaptation(setting, algorithm, state).learners[-1][0]
        found.append(
            learners if isinstance(algorithm, MAML) else eqx.filter_vmap(lambda p: p.policy)(learners)
        )
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_rate_scales_its_own_parameters_step():
    algorithm = MetaSGD(INNER, tasks=3)
    setting, state = begun(algorithm)
    doubled = eqx.tree_at(lambda p: p.log_rates.network.biases[-1], state.policy, jnp.full(1, jnp.log(2.0)))
    steps = []
    for policy in (state.policy, doubled):
        moved = adaptation(setting, algorithm, eqx.tree_at(lambda s: s.policy, state, policy)).learners[-1][0]
        after = eqx.filter_vmap(lambda p: p.policy)(moved)
        steps.append(jax.tree.map(lambda x, y: x - y, after, policy.base))
    once, twice = steps
    np.testing.assert_allclose(twice.network.biases[-1], 2 * once.network.biases[-1], rtol=1e-4)
    np.testing.assert_allclose(twice.network.weights[0], once.network.weights[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["anil", "meta-sgd", "cavia"])
def test_the_learner_repeats_the_adaptation_that_was_sampled(name: str):
    """It adapts the same parameters: every ratio is one at the policies that drew the query."""
    algorithm = METHODS[name]
    setting, state = begun(algorithm)
    batches = adaptation(setting, algorithm, state).batches
    batch = MetaBatch(batches[:-1], batches[-1])
    predict = eqx.filter_jit(algorithm.objective({}).predict)
    log_probs = predict(state.policy, batch).query.log_prob(batch.query.actions)
    np.testing.assert_allclose(log_probs, batch.query.log_probs, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_an_iteration_learns(name: str):
    algorithm = METHODS[name]
    setting, state = begun(algorithm)
    following, metrics = iterate(algorithm, setting, state, KEY)
    assert metrics["step_accepted"] == 1.0
    assert abs(metrics["loss"]) < 1e-5, "all ratios are one before the step"
    changed = jax.tree.map(lambda x, y: bool((x != y).any()), state.policy, following.policy)
    assert isinstance(changed, HeadAdapted | LearnedRates | ContextPolicy)
    if name == "cavia":
        assert not changed.context
    if name == "meta-sgd":
        assert any(jax.tree.leaves(changed.log_rates))
        assert not any(jax.tree.leaves(changed.offset)), "the context is no parameter of the outer rule"
    else:
        assert all(jax.tree.leaves(changed.policy.network))


def test_cavia_changes_its_context_alone():
    algorithm = METHODS["cavia"]
    setting, state = begun(algorithm)
    first, second, last = (x[0] for x in adaptation(setting, algorithm, state).learners)
    assert not first.context.any()
    assert (second.context != last.context).any(axis=1).all()
    assert len(np.unique(np.asarray(last.context), axis=0)) == 3, "each task has its own"
    same = jax.tree.map(lambda x, y: bool((x == y).all()), first.policy, last.policy)
    assert all(jax.tree.leaves(same))


def test_an_adaptation_begins_with_the_initial_context_where_it_samples_and_where_it_learns():
    algorithm = METHODS["cavia"]
    setting, state = begun(algorithm)
    assert not state.policy.context.any()
    ones = eqx.tree_at(lambda p: p.context, state.policy, jnp.ones(2))
    sampling, _ = algorithm.adapter(setting.estimator, state).begin(ones)
    learning, *_ = adapt(algorithm.inner_objective, algorithm.inner, ones, (), split=inner_part)
    np.testing.assert_array_equal(sampling.context, learning.context)
    at_one = sampling(jnp.zeros((1, 1))).mean
    np.testing.assert_allclose(
        at_one, ones.policy({"context": jnp.ones((1, 2)), "seen": jnp.zeros((1, 1))}).mean
    )


def test_anil_needs_a_last_layer():
    setting = setting_of(Target(spread=1.0))
    policy = GRU(units=2).build(KEY, setting.sampler.env.observation_space, Discrete(2))
    with pytest.raises(UserError, match="adapts the last layer of a perceptron"):
        ANIL(INNER).init(setting, policy, KEY)


class Mine(AbstractPolicy):
    """A policy of a user's own, whose body no task adapts."""

    body: MLP
    network: MLP
    raw_log_std: Array

    def __call__(self, observations: Array) -> DiagonalGaussian:
        mean = self.network(jnp.tanh(self.body(observations)))
        return DiagonalGaussian(mean, jnp.broadcast_to(self.raw_log_std, mean.shape))

    def roles(self) -> Any:
        return eqx.tree_at(lambda p: p.body, with_role(self, "adapted"), with_role(self.body, "shared"))


class Renamed(AbstractPolicy):
    network: MLP
    spread: Array

    def __call__(self, observations: Array) -> DiagonalGaussian:
        mean = self.network(observations)
        return DiagonalGaussian(mean, jnp.broadcast_to(self.spread, mean.shape))


def mine() -> Mine:
    body, head = (MLPOptions(hidden=()).network(key, 2, 2) for key in jax.random.split(KEY))
    return Mine(body, head, jnp.zeros(2))


def test_meta_sgd_has_rates_for_what_the_policy_adapts_alone():
    inner, _ = inner_part(LearnedRates.of(mine()))
    outer, _ = outer_part(LearnedRates.of(mine()))
    assert not jax.tree.leaves(inner.offset.body)
    assert len(jax.tree.leaves(inner.offset)) == 3
    assert len(jax.tree.leaves(outer.base)) == 5, "the body is meta-trained"


def test_anil_takes_a_policy_of_one_s_own():
    roles = ANIL().meta_policy(mine(), vector(2)).roles().policy
    assert (roles.raw_log_std, roles.network.weights, roles.body.weights) == (
        "adapted",
        ("adapted",),
        ("shared",),
    )
    renamed = Renamed(mine().network, jnp.zeros(2))
    with pytest.raises(UserError, match="none named raw_log_std"):
        ANIL().meta_policy(renamed, vector(2))
    assert ANIL(adapt_std=False).meta_policy(renamed, vector(2)).roles().policy.spread == "shared"
