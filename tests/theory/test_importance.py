import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.theory import importance as theory
from surefoot.theory.importance import clip_weights, likelihood_ratio, self_normalise
from surefoot.theory.returns import discounted_return, reward_to_go

effective_sample_size = jax.jit(theory.effective_sample_size)
per_decision_weights = jax.jit(theory.per_decision_weights)
trajectory_weight = jax.jit(theory.trajectory_weight)
weighted_reward_to_go = jax.jit(theory.weighted_reward_to_go)
RATIOS = jnp.array([0.5, 4.0, 0.25, 3.0])
LOG_RATIOS = jnp.log(RATIOS)
REWARDS = jnp.array([1.0, 2.0, 3.0, 4.0])
DISCOUNTS = jnp.array([0.5, 0.25, 1.0, 0.0])


def test_the_ratio_by_hand():
    ratios = likelihood_ratio(jnp.log(jnp.array([0.5, 0.2])), jnp.log(jnp.array([0.25, 0.4])))
    np.testing.assert_allclose(ratios, [2.0, 0.5], rtol=1e-6)


def test_the_ratio_is_one_at_the_policy_that_drew_the_data():
    log_probs = jnp.array([-3.0, 40.0, -80.0])
    np.testing.assert_array_equal(likelihood_ratio(log_probs, log_probs), jnp.ones(3))


def test_the_weight_of_a_trajectory_is_the_product_of_its_ratios():
    np.testing.assert_allclose(trajectory_weight(LOG_RATIOS), 0.5 * 4 * 0.25 * 3, rtol=1e-6)


def test_per_decision_weights_are_the_products_so_far():
    np.testing.assert_allclose(per_decision_weights(LOG_RATIOS), [0.5, 2.0, 0.5, 1.5], rtol=1e-6)


def test_padding_keeps_the_weights_of_the_last_valid_step():
    padded = jnp.concatenate([LOG_RATIOS, jnp.zeros(2)])
    np.testing.assert_allclose(trajectory_weight(padded), trajectory_weight(LOG_RATIOS), rtol=1e-6)
    expected = [*per_decision_weights(LOG_RATIOS), 1.5, 1.5]
    np.testing.assert_allclose(per_decision_weights(padded), expected, rtol=1e-6)


def test_a_product_that_no_float_could_hold_midway_is_found_in_logarithms():
    log_ratios = jnp.array([200.0, -199.0])
    np.testing.assert_allclose(trajectory_weight(log_ratios), np.e, rtol=1e-5)


def test_weighted_reward_to_go_by_hand():
    returns = weighted_reward_to_go(REWARDS, DISCOUNTS, RATIOS)
    third = 3 + 1.0 * 3 * 4
    second = 2 + 0.25 * 0.25 * third
    np.testing.assert_array_equal(returns, [1 + 0.5 * 4 * second, second, third, 4])


def test_weighted_reward_to_go_at_the_old_policy_is_the_reward_to_go():
    returns = weighted_reward_to_go(REWARDS, DISCOUNTS, jnp.ones(4))
    np.testing.assert_array_equal(returns, jax.jit(reward_to_go)(REWARDS, DISCOUNTS))


def test_weighted_reward_to_go_of_a_single_step_has_no_weight():
    returns = weighted_reward_to_go(jnp.array([7.0]), jnp.array([0.5]), jnp.array([3.0]))
    np.testing.assert_array_equal(returns, [7.0])


@pytest.mark.usefixtures("x64")
def test_past_weights_on_the_action_and_future_weights_on_the_reward_are_the_gradient():
    """V̂ = Σ_t (Π_{k<t} γ_k) w_t r_t by its definition, differentiated in the logits by JAX; at the policy
    that drew the data, and at another."""
    draw = np.random.default_rng(0)
    logits, other, rewards = draw.normal(size=(5, 3)), draw.normal(size=(5, 3)), draw.normal(size=5)
    actions = np.array([0, 2, 1, 1, 0])
    discounts = np.array([0.9, 0.5, 0.0, 0.7, 0.8])
    past = np.concatenate([np.ones(1), np.cumprod(discounts)[:-1]])

    def log_probs(logits: jax.Array) -> jax.Array:
        return jax.nn.log_softmax(logits)[jnp.arange(5), actions]

    @jax.jit
    def gradients(logits: jax.Array, old: jax.Array) -> tuple[jax.Array, jax.Array]:
        def estimate(logits: jax.Array) -> jax.Array:
            ratios = jnp.exp(log_probs(logits) - log_probs(old))
            return sum(past[t] * jnp.prod(ratios[: t + 1]) * rewards[t] for t in range(5))

        log_ratios = log_probs(logits) - log_probs(old)
        credit = past * per_decision_weights(log_ratios)
        credit *= weighted_reward_to_go(jnp.asarray(rewards), jnp.asarray(discounts), jnp.exp(log_ratios))
        return jax.vjp(log_probs, logits)[1](credit)[0], jax.grad(estimate)(logits)

    for old in (logits, logits + other):
        gradient, expected = gradients(jnp.asarray(logits), jnp.asarray(old))
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_weighted_estimates_are_unbiased_by_enumeration():
    """Over all trajectories of three choices between two actions, whose rewards depend on the past."""
    trajectories = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    p, q = np.array([0.3, 0.6, 0.9]), np.array([0.5, 0.2, 0.4])
    log_p, log_q = (np.log(np.where(trajectories == 1, chance, 1 - chance)) for chance in (p, q))
    rewards = np.array([1.0, -2.0, 4.0]) * np.cumsum(2.0 * trajectories - 0.5, axis=1)
    discounts, log_ratios = np.full(3, 0.5), log_p - log_q
    new, old = (np.exp(x.sum(axis=1)) for x in (log_p, log_q))

    @jax.jit
    def estimates(rewards: jax.Array, discounts: jax.Array, log_ratios: jax.Array) -> tuple[jax.Array, ...]:
        discounted = jax.vmap(discounted_return, (0, None))
        whole = jax.vmap(trajectory_weight)(log_ratios)
        each = jax.vmap(per_decision_weights)(log_ratios)
        forward = jax.vmap(weighted_reward_to_go, (0, None, 0))(rewards, discounts, jnp.exp(log_ratios))
        returns = discounted(rewards, discounts)
        by_trajectory, by_decision = whole * returns, discounted(each * rewards, discounts)
        return returns, whole, each, by_trajectory, by_decision, each[:, 0] * forward[:, 0]

    given = map(jnp.asarray, (rewards, discounts, log_ratios))
    returns, whole, each, *weighted = map(np.asarray, estimates(*given))
    for estimate in weighted:
        np.testing.assert_allclose(old @ estimate, new @ returns, rtol=1e-12)
    np.testing.assert_allclose(old @ whole, 1.0, rtol=1e-12)
    np.testing.assert_allclose(old @ each, np.ones(3), rtol=1e-12)


def test_clipping_limits_from_above_only():
    weights = jnp.array([[0.0, 0.5, 1.0], [2.0, 3.0, jnp.inf]])
    np.testing.assert_array_equal(clip_weights(weights, 2.0), [[0.0, 0.5, 1.0], [2.0, 2.0, 2.0]])


def test_self_normalised_weights_by_hand():
    np.testing.assert_array_equal(self_normalise(jnp.array([1.0, 2.0, 5.0, 0.0])), [0.5, 1.0, 2.5, 0.0])


def test_self_normalised_weights_do_not_depend_on_scale_and_average_to_one():
    weights = jnp.exp(jax.random.normal(jax.random.key(0), (7,)))
    normalised = self_normalise(weights)
    np.testing.assert_allclose(normalised.mean(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(self_normalise(1e6 * weights), normalised, rtol=1e-5)


def test_each_step_is_normalised_on_its_own():
    weights = jnp.array([[1.0, 8.0], [3.0, 0.0]])
    np.testing.assert_array_equal(self_normalise(weights), [[0.5, 2.0], [1.5, 0.0]])


def test_weights_that_are_all_zero_stay_zero():
    np.testing.assert_array_equal(self_normalise(jnp.zeros(3)), jnp.zeros(3))
    slope = jax.grad(lambda w: self_normalise(w).sum())(jnp.zeros(3))
    assert jnp.isfinite(slope).all()


def test_a_single_trajectory_has_weight_one_whatever_it_was():
    np.testing.assert_array_equal(self_normalise(jnp.array([0.25])), [1.0])


@pytest.mark.parametrize(
    ("weights", "size"),
    [([1.0, 1.0, 1.0, 1.0], 4.0), ([3.0, 1.0], 1.6), ([5.0, 0.0, 0.0], 1.0), ([7.0], 1.0), ([0.0, 0.0], 0.0)],
)
def test_effective_sample_size_by_hand(weights: list[float], size: float):
    np.testing.assert_allclose(effective_sample_size(jnp.array(weights)), size, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_effective_sample_size_does_not_depend_on_scale(scale: float):
    weights = scale * jnp.array([3.0, 1.0])
    np.testing.assert_allclose(effective_sample_size(weights), 1.6, rtol=1e-6)


def test_effective_sample_size_is_the_number_over_one_plus_the_squared_variation():
    weights = jnp.exp(jax.random.normal(jax.random.key(0), (50,)))
    variation = np.var(weights) / np.mean(weights) ** 2
    np.testing.assert_allclose(effective_sample_size(weights), 50 / (1 + variation), rtol=1e-5)
