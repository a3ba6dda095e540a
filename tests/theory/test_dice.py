"""DiCE: its derivatives against those of the exact return, by listing every trajectory of a small MDP."""

from dataclasses import replace
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import flatten, gradient_of, ravel
from support.samples import categorical_policy, random_batch
from surefoot.lab.exact import all_trajectories, solve
from surefoot.lab.problems import SoftmaxTable, chain, chain_policy
from surefoot.options import UserError
from surefoot.rules import PPOClip
from surefoot.theory.dice import DiceObjective, loaded_dice, past_weights
from surefoot.theory.objectives import AbstractObjective, PolicyObjective, reinforce, surrogate
from surefoot.types import Batch, Transitions

HORIZON = 4


def test_the_past_weights_by_hand():
    log_ratios = jnp.log(jnp.array([2.0, 3.0, 5.0]))
    np.testing.assert_allclose(past_weights(log_ratios, 1.0), [1, 2, 6], rtol=1e-6)
    np.testing.assert_allclose(past_weights(log_ratios, 0.5), [1, 2**0.5, 2**0.25 * 3**0.5], rtol=1e-6)
    np.testing.assert_array_equal(past_weights(log_ratios, 0.0), [1, 1, 1])


def test_the_loss_by_hand():
    """−ρ A − (V − 1)(ρ − 1) C at the second step: −3·7 − (2 − 1)(3 − 1)·11."""
    log_ratios = jnp.log(jnp.array([2.0, 3.0]))
    loss = loaded_dice(log_ratios, jnp.array([1.0, 7.0]), jnp.array([99.0, 11.0]), 1.0)
    np.testing.assert_allclose(loss, [-2, -43], rtol=1e-6)


def test_with_the_whole_past_it_is_the_per_decision_estimate():
    """Σ_t W_t r_t less the constant Σ_t (r_t − G_t), for rewards-to-go as advantages."""
    key = jax.random.key(0)
    log_ratios, rewards = jax.random.normal(key, (2, 5))
    to_go = jnp.cumsum(rewards[::-1])[::-1]
    loss = jnp.sum(loaded_dice(log_ratios, to_go, to_go, 1.0))
    expected = jnp.sum(jnp.exp(jnp.cumsum(log_ratios)) * rewards) - jnp.sum(rewards - to_go)
    np.testing.assert_allclose(-loss, expected, rtol=1e-5)


@pytest.mark.parametrize("control_variate", [True, False])
def test_without_the_past_it_is_the_surrogate(control_variate: bool, x64: None):
    """Everywhere, and not only at the policy that drew the data."""
    policy = categorical_policy()
    batch = with_returns(random_batch(policy, jax.random.key(1)))
    vector, build = flatten(policy)
    moved = build(vector + 0.3)
    pair = DiceObjective(0.0, control_variate), PolicyObjective(surrogate)
    (loss, gradient), (expected_loss, expected) = (gradient_of(x, moved, batch) for x in pair)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    np.testing.assert_allclose(ravel(gradient), ravel(expected), rtol=1e-10)


def with_returns(batch: Batch) -> Batch:
    """The batch with returns and a scale that have nothing to do with the advantages."""
    numbers = jax.random.normal(jax.random.key(9), batch.valid.shape, batch.advantages.dtype)
    unknown = jnp.zeros_like(numbers)
    transitions = Transitions(unknown, unknown, unknown, numbers, batch.observations)
    return replace(batch, transitions=transitions, advantage_scale=2.0 + unknown)


@pytest.mark.parametrize("control_variate", [True, False])
def test_value_and_gradient_at_the_old_policy_are_the_surrogates(control_variate: bool, x64: None):
    policy = categorical_policy()
    batch = with_returns(random_batch(policy, jax.random.key(1)))
    pair = DiceObjective(1.0, control_variate), PolicyObjective(surrogate)
    (loss, gradient), (expected_loss, expected) = (gradient_of(x, policy, batch) for x in pair)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    np.testing.assert_allclose(ravel(gradient), ravel(expected), rtol=1e-10)


def test_padding_counts_for_nothing(x64: None):
    policy = categorical_policy()
    batch = with_returns(random_batch(policy, jax.random.key(1)))
    assert not batch.valid.all()
    vector, build = flatten(policy)
    objective, moved = DiceObjective(0.7, False), build(vector + 0.3)
    expected = gradient_of(objective, moved, batch)
    spoilt = eqx.tree_at(
        lambda b: (b.log_probs, b.advantages),
        batch,
        replace_fn=lambda x: jnp.where(batch.valid, x, -1e9),
    )
    got = gradient_of(objective, moved, spoilt)
    np.testing.assert_allclose(ravel(got[1]), ravel(expected[1]), rtol=1e-12)
    assert np.isfinite(ravel(got[1])).all()


def test_credits_have_the_units_of_the_advantages():
    """Advantages twice as small as the returns' units: the products are halved too."""
    policy = categorical_policy()
    batch = with_returns(random_batch(policy, jax.random.key(1)))
    vector, build = flatten(policy)
    moved, objective = build(vector + 0.3), DiceObjective(1.0, False)
    prediction = objective.predict(moved, batch)
    assert batch.transitions is not None
    own = replace(batch, advantages=batch.transitions.returns / 2)
    expected = DiceObjective(1.0).loss(prediction, own)
    np.testing.assert_allclose(objective.loss(prediction, own), expected, rtol=1e-5)
    assert objective.uses_transitions
    assert not DiceObjective().uses_transitions


class Listed(eqx.Module):
    """All trajectories of the chain without a discount, as batches of one, and what is exact."""

    batches: Batch
    chances: jax.Array
    values: jax.Array
    """V_t(s_t) of the policy in them."""
    hessian: np.ndarray
    """∇²J."""
    gradient: np.ndarray


def build(vector: jax.Array) -> SoftmaxTable:
    return SoftmaxTable(vector.reshape(3, 2))


@cache
def listed() -> Listed:
    problem, policy = chain(HORIZON, discount=1.0), chain_policy()
    vector = policy.table.reshape(-1)
    episodes, chances = all_trajectories(problem, policy)
    values = solve(problem, policy.probabilities).values[jnp.arange(HORIZON), episodes.states]
    to_go = jnp.cumsum(episodes.rewards[:, ::-1], axis=1)[:, ::-1]
    observations = problem.observations[episodes.states]
    unknown = jnp.zeros_like(to_go)
    batches = Batch(
        observations,
        episodes.actions,
        policy(observations).log_prob(episodes.actions),
        to_go - values,
        jnp.ones(to_go.shape, bool),
        transitions=Transitions(unknown, unknown, values, to_go, observations),
    )

    def expected_return(v: jax.Array) -> jax.Array:
        return solve(problem, build(v).probabilities).value

    exact = jax.jit(lambda v: (jax.hessian(expected_return)(v), jax.grad(expected_return)(v)))
    return Listed(
        jax.tree.map(lambda x: x[:, None], batches),
        chances,
        values,
        *map(np.asarray, exact(vector)),
    )


def derivatives(loss: Any, *given: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The expected gradient and Hessian of minus a sum over steps, and the variance of the Hessian, over all
    trajectories; `loss(vector, one)` is the mean over steps of one of them."""
    data, vector = listed(), chain_policy().table.reshape(-1)
    on = jax.vmap(lambda one: (jax.grad(loss)(vector, one), jax.hessian(loss)(vector, one)))
    gradients, hessians = (-HORIZON * np.asarray(x) for x in jax.jit(on)(given or data.batches))
    chances = np.asarray(data.chances)
    gradient, hessian = (np.tensordot(chances, x, 1) for x in (gradients, hessians))
    return gradient, hessian, np.tensordot(chances, (hessians - hessian) ** 2, 1)


def term(v: jax.Array, one: tuple[Batch, jax.Array], own: bool) -> jax.Array:
    """The control variate (1 − V_t)(1 − ρ_t) b_t; with `own` V_t ρ_t stands for V_t, which is wrong."""
    batch, baseline = one
    log_ratios = (build(v)(batch.observations).log_prob(batch.actions) - batch.log_probs)[0]
    weights = jnp.exp(jnp.cumsum(log_ratios)) if own else past_weights(log_ratios, 1.0)
    return jnp.mean((1.0 - weights) * (1.0 - jnp.exp(log_ratios)) * baseline)


def of(objective: AbstractObjective) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return derivatives(lambda v, one: objective.loss(objective.predict(build(v), one), one))


@pytest.mark.parametrize("control_variate", [True, False])
def test_the_hessian_of_dice_is_unbiased(control_variate: bool, x64: None):
    gradient, hessian, _ = of(DiceObjective(1.0, control_variate))
    np.testing.assert_allclose(gradient, listed().gradient, atol=1e-12)
    np.testing.assert_allclose(hessian, listed().hessian, atol=1e-12)


def test_the_bias_of_the_hessian_falls_as_the_past_counts_more(x64: None):
    found = [of(DiceObjective(decay)) for decay in (0.0, 0.5, 0.9, 1.0)]
    biases = [np.linalg.norm(hessian - listed().hessian) for _, hessian, _ in found]
    assert biases[0] > biases[1] > biases[2] > biases[3]
    assert biases[2] > 1e-3
    for gradient, *_ in found:
        np.testing.assert_allclose(gradient, listed().gradient, atol=1e-12)
    np.testing.assert_allclose(found[0][1], of(PolicyObjective(surrogate))[1], atol=1e-12)
    pseudo = of(PolicyObjective(reinforce))
    np.testing.assert_allclose(pseudo[0], listed().gradient, atol=1e-12)
    assert np.linalg.norm(pseudo[1] - listed().hessian) > 1e-2


def test_the_control_variate_has_mean_zero_and_reduces_the_variance(x64: None):
    """(1 − V_t)(1 − ρ_t) b_t, the difference of the two losses. With the step's own ratio in V_t its mean is
    not zero, and it would be a bias."""
    data = listed()
    gradient, hessian, _ = derivatives(lambda v, one: term(v, one, False), data.batches, data.values)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-12)
    np.testing.assert_allclose(hessian, 0.0, atol=1e-12)
    wrong = derivatives(lambda v, one: term(v, one, True), data.batches, data.values)[1]
    assert np.abs(wrong).max() > 0.1
    with_it, without = (of(DiceObjective(1.0, control_variate))[2].sum() for control_variate in (True, False))
    assert with_it < 0.8 * without

    def difference(v: jax.Array, one: Batch) -> jax.Array:
        losses = [
            x.loss(x.predict(build(v), one), one) for x in (DiceObjective(1.0), DiceObjective(1.0, False))
        ]
        return losses[0] - losses[1]

    one = jax.tree.map(lambda x: x[7], data.batches)
    moved = chain_policy().table.reshape(-1) + jnp.linspace(0.0, 0.5, 6)
    np.testing.assert_allclose(difference(moved, one), term(moved, (one, data.values[7]), False), rtol=1e-9)


def terms(weights: Any, decay: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every trajectory the weighted sums over its steps of ∇ψ_t, of ψ_t ψ_tᵀ and of ψ_t Ψ_tᵀ + Ψ_t ψ_tᵀ,
    with Ψ_t = Σ_{k<t} λ^(t−k) ψ_k. By hand: in the row of its state the score of a softmax is the action,
    one-hot, less p, and its derivative −(diag p − p pᵀ)."""
    data = listed()
    seen, actions = (np.asarray(x)[:, 0] for x in (data.batches.observations, data.batches.actions))
    states = seen.argmax(axis=-1)
    rows = np.asarray(jax.nn.softmax(chain_policy().table))
    score, slope = np.zeros((3, 2, 3, 2)), np.zeros((3, 3, 2, 3, 2))
    for s, p in enumerate(rows):
        score[s, :, s] = np.eye(2) - p
        slope[s, s, :, s] = np.outer(p, p) - np.diag(p)
    scores, slopes = score.reshape(3, 2, 6)[states, actions], slope.reshape(3, 6, 6)[states]
    age = np.arange(HORIZON)[:, None] - np.arange(HORIZON)
    past = np.einsum("tk,nkp->ntp", np.where(age > 0, decay ** np.maximum(age, 0.0), 0.0), scores)
    weights = np.asarray(weights)
    products = np.einsum("nt,ntp,ntq->npq", weights, scores, past)
    return (
        np.einsum("nt,ntpq->npq", weights, slopes),
        np.einsum("nt,ntp,ntq->npq", weights, scores, scores),
        products + products.swapaxes(1, 2),
    )


def test_the_hessian_of_the_return_is_the_mean_of_four_terms_with_the_reward_to_go(x64: None):
    data = listed()
    assert data.batches.transitions is not None
    found = [np.tensordot(data.chances, x, 1) for x in terms(data.batches.transitions.returns[:, 0])]
    np.testing.assert_allclose(sum(found), data.hessian, atol=1e-12)
    for without in found:
        assert np.linalg.norm(without) > 0.1


def hessians(loss: Any, given: Any) -> np.ndarray:
    """The second derivative of a sum over steps, of every trajectory, where `loss` is its mean."""
    each = jax.vmap(lambda one: jax.hessian(loss)(chain_policy().table.reshape(-1), one))
    return HORIZON * np.asarray(jax.jit(each)(given))


@pytest.mark.parametrize(
    ("objective", "own", "past"),
    [
        (PolicyObjective(reinforce), False, None),
        (PolicyObjective(surrogate), True, None),
        (DiceObjective(1.0), True, 1.0),
        (DiceObjective(0.5), True, 0.5),
    ],
    ids=["log-likelihood", "surrogate", "dice", "loaded dice"],
)
def test_what_the_second_derivative_of_each_loss_contains(
    objective: AbstractObjective, own: bool, past: float | None, x64: None
):
    """Of every trajectory, and not only on average."""
    data = listed()
    slopes, squares, products = terms(data.batches.advantages[:, 0], past or 1.0)
    found = hessians(lambda v, one: objective.loss(objective.predict(build(v), one), one), data.batches)
    expected = -(slopes + (squares if own else 0.0) + (products if past else 0.0))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_step_s_own_ratio_in_the_control_variate_adds_twice_the_squared_score(x64: None):
    """2 ψ_t ψ_tᵀ b_t, whose mean is not zero."""
    data = listed()
    _, squares, products = terms(data.values)
    right, wrong = (
        hessians(lambda v, one, own=own: term(v, one, own), (data.batches, data.values))
        for own in (False, True)
    )
    np.testing.assert_allclose(right, products, atol=1e-12)
    np.testing.assert_allclose(wrong, products + 2 * squares, atol=1e-12)
    np.testing.assert_allclose(np.tensordot(data.chances, products, 1), 0.0, atol=1e-12)
    assert np.linalg.norm(np.tensordot(data.chances, squares, 1)) > 0.1


def test_what_dice_cannot_learn_from():
    policy = categorical_policy()
    batch = random_batch(policy, jax.random.key(1))
    objective = DiceObjective(1.0, False)
    with pytest.raises(UserError, match="needs the batch's transitions"):
        objective.loss(objective.predict(policy, batch), batch)
    steps = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
    with pytest.raises(UserError, match="whole episodes"):
        objective.predict(policy, steps)
    rule = PPOClip()
    with pytest.raises(UserError, match="ppo-clip as the inner rule would clip"):
        rule.step(objective, policy, batch, rule.init(policy))
