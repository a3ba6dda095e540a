"""ProMP and E-MAML: their meta-gradients against finite differences and against exact expectations."""

from dataclasses import replace
from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import flatten, identical, ravel
from support.probes import Target
from support.samples import gaussian_policy, random_meta_batch
from support.settings import iterate, policy_for, setting_of
from surefoot.algorithms import EMAML, MAML, ProMP, Setting, adapt_to_tasks, policy_objective
from surefoot.algorithms.emaml import Exploration
from surefoot.algorithms.promp import SupportKL
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP
from surefoot.rules import GradientStep, OptaxStep, PPOClip
from surefoot.theory.meta import adapted
from surefoot.theory.objectives import loss_and_gradient
from surefoot.types import Batch, Discrete, MetaBatch

KEY = jax.random.key(5)
INNER = GradientStep(lr=0.3)


def meta_batch(setting: Setting, algorithm: Any, policy: Any) -> MetaBatch:
    """A meta-batch that the algorithm's policies drew."""
    state = algorithm.init(setting, policy, KEY)
    adapter = algorithm.adapter(setting.estimator, state)
    tasks = setting.sampler.env.sample_tasks(KEY, 3)
    batches = adapt_to_tasks(setting.sampler, adapter, policy, tasks, KEY, algorithm.inner_steps).batches
    return MetaBatch(batches[:-1], batches[-1])


def central_differences(f: Any, at: jax.Array, step: float = 1e-5) -> np.ndarray:
    steps = step * jnp.eye(len(at))
    return np.asarray(jax.jit(jax.vmap(lambda h: (f(at + h) - f(at - h)) / (2 * step)))(steps))


RETURNS = jnp.array([[1.0, 2.0], [0.0, 4.0], [-1.0, 0.5]])
TERMS = {
    "support_kl": SupportKL(jnp.array([0.7, 0.2]), None),
    "exploration": Exploration(jnp.asarray(0.5)),
}


@pytest.mark.parametrize("name", TERMS)
def test_the_meta_gradient_is_that_of_finite_differences(name: str, x64: None):
    """At a policy that has left the data, through two inner steps."""
    setting = setting_of(Target(spread=1.0), episodes=4)
    algorithm = MAML(INNER, inner_steps=2, inner_loss="surrogate")
    policy = policy_for(setting, hidden=(2,), output_scale=1.0)
    batch = meta_batch(setting, algorithm, policy)
    term = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), TERMS[name])
    surrogate = policy_objective("surrogate")
    objective = adapted(surrogate.clipped(0.3), INNER, inner_objective=surrogate, chunk=2, terms={name: term})
    prepared = term.prepare(objective, policy, batch, jnp.asarray(RETURNS, jnp.float64))
    batch = replace(batch, prepared={name: prepared})
    vector, build = flatten(policy)
    moved = vector + 0.05 * jax.random.normal(KEY, vector.shape, vector.dtype)

    def loss(v: jax.Array) -> jax.Array:
        return objective.loss(objective.predict(build(v), batch), batch)

    value, gradient = eqx.filter_jit(loss_and_gradient)(objective, build(moved), batch)
    np.testing.assert_allclose(flatten(gradient)[0], central_differences(loss, moved), rtol=1e-5, atol=1e-7)
    plain = adapted(surrogate.clipped(0.3), INNER, inner_objective=surrogate)
    assert abs(value - plain.loss(plain.predict(build(moved), batch), batch)) > 1e-4, "the term counts"


def test_exploration_counts_every_support_set_by_the_policy_that_drew_it():
    """The term is −w C_i times the sum of log π_θk − log π_old over both sets D_k of a task."""
    setting = setting_of(Target(spread=1.0), episodes=4)
    algorithm = EMAML(INNER, inner_steps=2, exploration=0.5)
    policy = policy_for(setting)
    batch = meta_batch(setting, algorithm, policy)
    objective = algorithm.objective(algorithm.terms())
    predict = eqx.filter_jit(objective.predict)
    for predicted, data in zip(predict(policy, batch).support, batch.support, strict=True):
        np.testing.assert_allclose(predicted.log_prob(data.actions), data.log_probs, atol=1e-5)
    moved = jax.tree.map(lambda x: x + 0.1 if eqx.is_inexact_array(x) else x, policy)
    prediction, credit = predict(moved, batch), jnp.array([2.0, -1.0, 3.0])
    term = algorithm.terms()["exploration"]
    got = jax.vmap(lambda *task: term(objective.outer, *task))(prediction, batch, credit)
    drift = [
        np.sum(predicted.log_prob(data.actions) - data.log_probs, axis=(1, 2))
        for predicted, data in zip(prediction.support, batch.support, strict=True)
    ]
    np.testing.assert_allclose(got, -0.5 * credit * (drift[0] + drift[1]), rtol=1e-4)
    assert np.abs(drift).min() > 1e-3, "each set counts"


def test_the_support_kl_is_the_drift_since_sampling():
    """Zero at the policy that drew the data, although every task has adapted; then the mean KL of each
    support set, times its coefficient."""
    setting = setting_of(Target(spread=1.0))
    policy, algorithm = policy_for(setting), ProMP(INNER, inner_steps=2)
    batch = meta_batch(setting, algorithm, policy)
    term = SupportKL(jnp.array([2.0, 3.0]), None)
    objective = adapted(policy_objective("surrogate"), INNER, terms={"kl": term})
    old = term.prepare(objective, policy, batch, RETURNS)
    batch = replace(batch, prepared={"kl": old})

    def added(policy: Any) -> float:
        prediction = objective.predict(policy, batch)
        without = jnp.mean(jax.vmap(objective.outer.loss)(prediction.query, batch.query))
        return float(objective.loss(prediction, batch) - without)

    assert added(policy) == pytest.approx(0.0, abs=1e-7)
    moved = jax.tree.map(lambda x: x + 0.1 if eqx.is_inexact_array(x) else x, policy)
    new = objective.predict(moved, batch).support
    expected = sum(c * np.mean(a.kl(b)) for c, a, b in zip((2.0, 3.0), old, new, strict=True))
    assert added(moved) == pytest.approx(float(expected), rel=1e-4)
    assert float(expected) > 1e-3


def test_each_coefficient_follows_its_own_kl():
    setting = setting_of(Target(spread=1.0))
    algorithm = ProMP(INNER, inner_steps=2, tasks=3, kl_coefficient=1.0, target_kl=1e3)
    state = algorithm.init(setting, policy_for(setting), KEY)
    new, metrics = iterate(algorithm, setting, state, KEY)
    np.testing.assert_array_equal(new.own.terms["support_kl"].coefficients, [0.5, 0.5])
    assert metrics["kl_coefficient"] == 1.0
    fixed = replace(algorithm, target_kl=None)
    same, _ = iterate(fixed, setting, fixed.init(setting, policy_for(setting), KEY), KEY)
    np.testing.assert_array_equal(same.own.terms["support_kl"].coefficients, [1.0, 1.0])


def test_a_coefficient_rises_where_its_own_support_set_has_moved():
    """The policy of the first set is where it was, that of the second is not."""
    policy = gaussian_policy(actions=1, hidden=())
    batch = random_meta_batch(policy, KEY, tasks=2, steps=2)
    term = SupportKL(jnp.ones(2), jnp.asarray(0.01))
    objective = adapted(policy_objective("surrogate"), INNER, terms={"kl": term}, chunk=2)
    first, second = eqx.filter_jit(objective.predict)(policy, batch).support
    old = first, jax.tree.map(lambda x: x + 1.0, second)
    following, _ = eqx.filter_jit(term.update)(objective, policy, batch, old)
    np.testing.assert_array_equal(following.coefficients, [0.5, 2.0])


def test_promp_takes_its_steps_on_one_batch():
    setting = setting_of(Target(spread=1.0), episodes=8)
    algorithm = ProMP(INNER, tasks=3)
    state = algorithm.init(setting, policy_for(setting), KEY)
    new, metrics = iterate(algorithm, setting, state, KEY)
    assert abs(metrics["loss"]) < 1e-5
    assert metrics["minibatch_steps"] == 5
    assert metrics["loss_after"] < metrics["loss"]
    assert 0 < metrics["support_kl"] < 0.1
    assert identical(iterate(algorithm, setting, state, KEY), (new, metrics))


def test_a_log_likelihood_inner_loss_is_refused_by_rules_of_several_steps():
    setting = setting_of(Target())
    for algorithm in (ProMP(inner_loss="reinforce"), MAML(outer=PPOClip())):
        with pytest.raises(UserError, match=r"takes several steps on one meta-batch.*--inner-loss surrogate"):
            algorithm.init(setting, policy_for(setting), KEY)
    MAML(outer=OptaxStep()).init(setting, policy_for(setting), KEY)


# Two arms, one pull an episode: every data set can be listed, with its probability.

ARMS, SUPPORT, QUERY = 2, 2, 2
REWARDS = np.array([1.0, 3.0])


def bandit_batch(policy: Any, actions: Any) -> Batch:
    """The batch of episodes of one pull each, with rewards as advantages."""
    actions = jnp.asarray(actions)[:, None]
    observations = jnp.ones((*actions.shape, 1))
    log_probs = policy(observations).log_prob(actions)
    rewards = jnp.asarray(REWARDS)[actions]
    return Batch(observations, actions, log_probs, rewards, jnp.ones(actions.shape, bool))


@pytest.mark.parametrize("exploration", [1.0, 0.0])
def test_e_maml_is_unbiased_and_maml_is_not(exploration: float, x64: None):
    """The expected gradient over all data sets against the gradient of the expected return after adaptation.
    A product of two means in the term, for a sum, would be too small by the number of support episodes."""
    policy = CategoricalMLP(hidden=()).build(KEY, 1, Discrete(ARMS))
    policy = jax.tree.map(lambda x: x + 0.3 if eqx.is_inexact_array(x) else x, policy)
    vector, build = flatten(policy)
    reinforce, inner = policy_objective("reinforce"), GradientStep(lr=0.7)
    supports = jnp.array(list(product(range(ARMS), repeat=SUPPORT)))
    queries = jnp.array(list(product(range(ARMS), repeat=QUERY)))

    def chance(policy: Any, actions: jax.Array) -> jax.Array:
        return jnp.exp(jnp.sum(policy(jnp.ones((len(actions), 1))).log_prob(actions)))

    def after(policy: Any, actions: jax.Array) -> Any:
        data = bandit_batch(jax.lax.stop_gradient(policy), actions)
        return inner.step(reinforce, policy, data, inner.init(policy))[0]

    def expected_return(v: jax.Array) -> jax.Array:
        def of(actions: jax.Array) -> jax.Array:
            policy = after(build(v), actions)
            probabilities = jax.nn.softmax(policy(jnp.ones(1)).logits)
            return chance(build(v), actions) * jnp.sum(probabilities * jnp.asarray(REWARDS))

        return jnp.sum(jax.vmap(of)(supports))

    term = Exploration(jnp.asarray(exploration))
    objective = adapted(
        policy_objective("surrogate"), inner, inner_objective=reinforce, terms={"exploration": term}
    )

    def estimate(support: jax.Array, query: jax.Array) -> tuple[jax.Array, jax.Array]:
        adapted_policy = after(policy, support)
        batches = bandit_batch(policy, support), bandit_batch(adapted_policy, query)
        one = jax.tree.map(lambda x: x[None], batches)
        batch = MetaBatch((one[0],), one[1])
        returns = jnp.asarray(REWARDS)[query][None]
        batch = replace(batch, prepared={"exploration": term.prepare(objective, policy, batch, returns)})
        _, gradient = loss_and_gradient(objective, policy, batch)
        return chance(policy, support) * chance(adapted_policy, query), flatten(gradient)[0]

    pairs = [jnp.stack(x) for x in zip(*product(supports, queries), strict=True)]
    chances, gradients = jax.jit(jax.vmap(estimate))(*pairs)
    np.testing.assert_allclose(chances.sum(), 1.0, rtol=1e-12)
    exact = jax.jit(jax.grad(expected_return))(vector)
    expected = -jnp.einsum("n,np->p", chances, gradients)
    if exploration:
        np.testing.assert_allclose(expected, exact, rtol=1e-10, atol=1e-12)
    else:
        assert np.abs(expected - exact).max() > 0.05


def test_the_credit_has_the_units_of_the_outer_loss():
    """Returns less the others' mean, over the length of an episode and the scale of the advantages."""
    valid = jnp.ones((3, 2, 4), bool).at[0, :, 2:].set(False)
    numbers = jnp.zeros((3, 2, 4))
    scale = jnp.array([2.0, 1.0, 4.0])[:, None, None] * jnp.ones_like(numbers)
    query = Batch(numbers[..., None], numbers[..., None], numbers, numbers, valid, advantage_scale=scale)
    returns = jnp.array([[1.0, 3.0], [5.0, 7.0], [0.0, 2.0]])  # means 2, 6, 1
    objective = adapted(policy_objective("surrogate"), INNER)
    got = TERMS["exploration"].prepare(objective, None, MetaBatch((), query), returns)
    np.testing.assert_allclose(got, [-1.5 / (2 * 2), 4.5 / 4, -3.0 / (4 * 4)], rtol=1e-6)


@pytest.mark.parametrize(
    "algorithm", [EMAML(INNER, tasks=4), EMAML(INNER, OptaxStep("sgd", lr=0.1), tasks=4, chunk=3)]
)
def test_an_iteration_of_e_maml(algorithm: EMAML):
    setting = setting_of(Target(spread=1.0), episodes=8)
    state = algorithm.init(setting, policy_for(setting), KEY)
    new, metrics = iterate(algorithm, setting, state, KEY)
    assert abs(metrics["loss"]) < 1e-5, "the term is zero at the policy that drew the data"
    assert metrics["exploration_credit"] > 0
    plain = replace(algorithm, exploration=0.0)
    without, _ = iterate(plain, setting, plain.init(setting, policy_for(setting), KEY), KEY)
    assert not identical(new.policy, without.policy)
    maml = MAML(INNER, algorithm.outer, tasks=4, chunk=algorithm.chunk)
    expected, _ = iterate(maml, setting, maml.init(setting, policy_for(setting), KEY), KEY)
    np.testing.assert_allclose(ravel(without.policy), ravel(expected.policy), atol=1e-5)


def test_options_of_a_term_are_those_of_the_algorithm_and_not_of_the_state():
    """So that a weight may change while training goes on."""
    setting = setting_of(Target(spread=1.0), episodes=4)
    with_term, without = EMAML(INNER, tasks=3, exploration=1.0), EMAML(INNER, tasks=3, exploration=0.0)
    state = with_term.init(setting, policy_for(setting), KEY)
    found, _ = iterate(without, setting, state, KEY)
    expected, _ = iterate(without, setting, without.init(setting, policy_for(setting), KEY), KEY)
    assert identical(found.policy, expected.policy)
    assert not identical(found.policy, iterate(with_term, setting, state, KEY)[0].policy)
    earlier = SupportKL(jnp.array([0.7, 0.2]), None)
    now = SupportKL(jnp.array([0.1, 0.1]), jnp.asarray(0.01)).after(earlier)
    np.testing.assert_array_equal(now.coefficients, earlier.coefficients)
    assert now.target == jnp.asarray(0.01)
