"""Closed forms against numerical integration, enumeration and samples.

The bound on a sample mean of n draws is four of its standard errors: with the fixed keys used here, a test
either always passes or always fails.
"""

from math import log, pi, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from surefoot.theory.distributions import Categorical, DiagonalGaussian, FullGaussian, MultiCategorical

NARROW = DiagonalGaussian(jnp.array([0.5, -1.0]), jnp.log(jnp.array([0.5, 1.0])))
WIDE = DiagonalGaussian(jnp.array([0.0, 1.0]), jnp.log(jnp.array([1.5, 2.0])))
COIN = Categorical(jnp.log(jnp.array([0.25, 0.75])))
SKEWED = Categorical(jnp.log(jnp.array([0.9, 0.1])) + 3.0)
DRAWS = 4000


def grid(low: float = -12.0, high: float = 12.0, points: int = 2401) -> tuple[jax.Array, float]:
    return jnp.linspace(low, high, points), (high - low) / (points - 1)


def in_one_dimension(d: DiagonalGaussian, i: int) -> DiagonalGaussian:
    return DiagonalGaussian(d.mean[i : i + 1], d.log_std[i : i + 1])


@jax.jit
def integrals(p: DiagonalGaussian, q: DiagonalGaussian) -> tuple[jax.Array, ...]:
    """∫p, H(p) and KL(p ‖ q) of two distributions in one dimension, on a grid; then the closed forms."""
    x, width = grid()
    log_p = jax.vmap(p.log_prob)(x[:, None])
    log_q = jax.vmap(q.log_prob)(x[:, None])
    density = jnp.exp(log_p)
    totals = [jnp.sum(density), jnp.sum(-density * log_p), jnp.sum(density * (log_p - log_q))]
    return (*(width * total for total in totals), p.entropy(), p.kl(q))


def test_gaussian_log_prob_by_hand_is_summed_over_dimensions():
    action = jnp.array([1.5, 0.0])
    # z = 2 and 1, so that a mean over dimensions would give half of this.
    expected = -0.5 * (4 + 1) - log(2 * pi) - log(0.5)
    np.testing.assert_allclose(NARROW.log_prob(action), expected, rtol=1e-6)


@pytest.mark.parametrize("i", [0, 1])
def test_gaussian_agrees_with_numerical_integration(i: int, x64: None):
    p, q = (in_one_dimension(jax.tree.map(lambda x: x.astype(jnp.float64), d), i) for d in (NARROW, WIDE))
    total, entropy, kl, closed_entropy, closed_kl = integrals(p, q)
    np.testing.assert_allclose(total, 1, atol=1e-7)
    np.testing.assert_allclose(closed_entropy, entropy, rtol=1e-6)
    np.testing.assert_allclose(closed_kl, kl, rtol=1e-6)


def test_gaussian_entropy_and_kl_are_sums_over_dimensions():
    parts = [(in_one_dimension(NARROW, i), in_one_dimension(WIDE, i)) for i in (0, 1)]
    np.testing.assert_allclose(NARROW.entropy(), sum(p.entropy() for p, _ in parts), rtol=1e-6)
    np.testing.assert_allclose(NARROW.kl(WIDE), sum(p.kl(q) for p, q in parts), rtol=1e-6)


def test_gaussian_kl_by_hand_in_both_directions():
    # N(0, 1) and N(1, 4).
    p = DiagonalGaussian(jnp.zeros(1), jnp.zeros(1))
    q = DiagonalGaussian(jnp.ones(1), jnp.full(1, log(2.0)))
    np.testing.assert_allclose(p.kl(q), log(2) + (1 + 1) / 8 - 0.5, rtol=1e-6)
    np.testing.assert_allclose(q.kl(p), -log(2) + (4 + 1) / 2 - 0.5, rtol=1e-6)


def test_gaussian_samples_have_its_moments_and_its_entropy():
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (DRAWS, *x.shape)), NARROW)
    draws = many.sample(jax.random.key(0))
    std = np.exp(NARROW.log_std)
    np.testing.assert_array_less(np.abs(draws.mean(0) - NARROW.mean), 4 * std / sqrt(DRAWS))
    np.testing.assert_allclose(draws.std(0), std, rtol=4 / sqrt(2 * DRAWS))
    # −log p has variance ½ in each dimension.
    error = abs(-many.log_prob(draws).mean() - NARROW.entropy())
    assert error < 4 / sqrt(DRAWS)


def test_gaussian_kl_is_the_mean_log_ratio_under_the_first():
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (DRAWS, *x.shape)), NARROW)
    draws = many.sample(jax.random.key(1))
    ratios = many.log_prob(draws) - jax.vmap(WIDE.log_prob)(draws)
    assert abs(ratios.mean() - NARROW.kl(WIDE)) < 4 * ratios.std() / sqrt(DRAWS)
    assert abs(ratios.mean() - WIDE.kl(NARROW)) > 40 * ratios.std() / sqrt(DRAWS)


def test_gaussian_mode_is_the_mean():
    np.testing.assert_array_equal(NARROW.mode(), NARROW.mean)


def test_categorical_log_prob_by_hand_ignores_a_shift_of_the_logits():
    np.testing.assert_allclose(COIN.log_prob(jnp.array(1, jnp.int32)), log(0.75), rtol=1e-6)
    np.testing.assert_allclose(SKEWED.log_prob(jnp.array(0, jnp.int32)), log(0.9), rtol=1e-5)


def test_categorical_entropy_by_hand():
    np.testing.assert_allclose(COIN.entropy(), -(0.25 * log(0.25) + 0.75 * log(0.75)), rtol=1e-6)
    np.testing.assert_allclose(Categorical(jnp.zeros(5)).entropy(), log(5), rtol=1e-6)


def test_categorical_kl_by_hand_in_both_directions():
    forward = 0.25 * log(0.25 / 0.9) + 0.75 * log(0.75 / 0.1)
    backward = 0.9 * log(0.9 / 0.25) + 0.1 * log(0.1 / 0.75)
    np.testing.assert_allclose(COIN.kl(SKEWED), forward, rtol=1e-5)
    np.testing.assert_allclose(SKEWED.kl(COIN), backward, rtol=1e-5)
    assert abs(forward - backward) > 0.05


def test_an_action_without_probability_adds_nothing_to_entropy_and_kl():
    masked, other = (Categorical(jnp.array([*x.logits, -jnp.inf])) for x in (COIN, SKEWED))
    np.testing.assert_allclose(masked.entropy(), COIN.entropy(), rtol=1e-6)
    np.testing.assert_allclose(masked.kl(other), COIN.kl(SKEWED), rtol=1e-6)
    slopes = (
        (lambda x: Categorical(x).entropy(), lambda x: Categorical(x).entropy()),
        (lambda x: Categorical(x).kl(other), lambda x: Categorical(x).kl(SKEWED)),
        (lambda x: other.kl(Categorical(x)), lambda x: SKEWED.kl(Categorical(x))),
    )
    for with_mask, without in slopes:
        found = jax.grad(with_mask)(masked.logits)
        np.testing.assert_allclose(found, [*jax.grad(without)(COIN.logits), 0.0], atol=1e-6)
    assert Categorical(jnp.zeros(3)).kl(masked) == jnp.inf


def test_categorical_samples_are_as_frequent_as_they_should_be():
    draws = Categorical(jnp.broadcast_to(COIN.logits, (DRAWS, 2))).sample(jax.random.key(0))
    assert draws.dtype == jnp.int32
    assert abs(np.mean(draws) - 0.75) < 4 * sqrt(0.25 * 0.75 / DRAWS)


def test_categorical_mode_is_the_most_probable_action():
    both = Categorical(jnp.stack([COIN.logits, SKEWED.logits]))
    np.testing.assert_array_equal(both.mode(), [1, 0])


def test_multi_categorical_is_the_product_of_its_parts():
    """Against the categorical distribution over all pairs."""
    logits, others = jnp.array([0.3, -1.0, 0.7, 0.2, -0.4]), jnp.array([0.0, 0.5, -0.2, 1.0, 0.1])
    pair, other = MultiCategorical(logits, (3, 2)), MultiCategorical(others, (3, 2))
    flat, flat_other = (Categorical((x[:3, None] + x[None, 3:]).ravel()) for x in (logits, others))
    actions = jnp.stack(jnp.meshgrid(jnp.arange(3), jnp.arange(2), indexing="ij"), axis=-1).reshape(-1, 2)
    expected = jax.vmap(flat.log_prob)(jnp.arange(6))
    np.testing.assert_allclose(jax.vmap(pair.log_prob)(actions), expected, rtol=1e-6)
    np.testing.assert_allclose(pair.entropy(), flat.entropy(), rtol=1e-6)
    np.testing.assert_allclose(pair.kl(other), flat.kl(flat_other), rtol=1e-5)
    assert pair.mode().tolist() == [2, 0]
    drawn = np.asarray(jax.vmap(pair.sample)(jax.random.split(jax.random.key(0), DRAWS)))
    probabilities = np.exp(np.asarray(expected))
    seen = np.array([(drawn == action).all(axis=1).mean() for action in np.asarray(actions)])
    assert (np.abs(seen - probabilities) <= 4 * np.sqrt(probabilities * (1 - probabilities) / DRAWS)).all()


PAIR = MultiCategorical(jnp.array([0.3, -1.0, 0.7, 0.2, -0.4]), (3, 2))


@pytest.mark.parametrize("distribution", [NARROW, COIN, PAIR], ids=["gaussian", "categorical", "several"])
def test_a_batch_is_each_of_its_elements(distribution: DiagonalGaussian | Categorical | MultiCategorical):
    batch = jax.tree.map(lambda x: jnp.stack([x, x + 0.5]), distribution)
    actions = batch.sample(jax.random.key(0))
    for i in (0, 1):
        one = jax.tree.map(lambda x, i=i: x[i], batch)
        np.testing.assert_allclose(batch.log_prob(actions)[i], one.log_prob(actions[i]), rtol=1e-6)
        np.testing.assert_allclose(batch.entropy()[i], one.entropy(), rtol=1e-6)
        np.testing.assert_allclose(batch.kl(batch)[i], 0.0, atol=1e-7)


def test_a_sample_follows_from_noise_that_does_not_depend_on_the_parameters():
    key = jax.random.key(5)
    for one, other in ((NARROW, WIDE), (COIN, SKEWED)):
        np.testing.assert_array_equal(one.noise(key), other.noise(key))
        np.testing.assert_array_equal(one.sample(key), one.sample_from(other.noise(key)))
    np.testing.assert_array_equal(
        NARROW.sample(key), NARROW.mean + jnp.exp(NARROW.log_std) * jax.random.normal(key, (2,))
    )
    keys = jax.random.split(key, 200)
    np.testing.assert_array_equal(
        jax.vmap(COIN.sample)(keys), jax.vmap(lambda k: jax.random.categorical(k, COIN.logits))(keys)
    )


def full(seed: int, size: int = 3) -> FullGaussian:
    draw = np.random.default_rng(seed)
    scale = np.tril(draw.normal(size=(size, size)), -1) + np.diag(draw.uniform(0.5, 2.0, size))
    return FullGaussian(jnp.asarray(draw.normal(size=size)), jnp.asarray(scale))


def covariance(p: FullGaussian) -> np.ndarray:
    return np.asarray(p.scale) @ np.asarray(p.scale).T


def test_a_full_covariance_agrees_with_scipy_and_with_the_dense_formulas(x64: None):
    p, q = full(0), full(1)
    action = jnp.array([0.3, -1.2, 0.7])
    peer = multivariate_normal(p.mean, covariance(p))
    np.testing.assert_allclose(p.log_prob(action), peer.logpdf(action), rtol=1e-10)
    np.testing.assert_allclose(p.entropy(), peer.entropy(), rtol=1e-10)
    other = np.linalg.inv(covariance(q))
    distance = np.asarray(p.mean - q.mean)
    determinants = np.linalg.slogdet(covariance(q))[1] - np.linalg.slogdet(covariance(p))[1]
    expected = 0.5 * (np.trace(other @ covariance(p)) + distance @ other @ distance - 3 + determinants)
    np.testing.assert_allclose(p.kl(q), expected, rtol=1e-10)
    np.testing.assert_allclose(p.kl(p), 0.0, atol=1e-12)


def test_a_diagonal_covariance_is_the_diagonal_gaussian(x64: None):
    p, q = (jax.tree.map(lambda x: x.astype(jnp.float64), d) for d in (NARROW, WIDE))
    action = jnp.array([[1.5, 0.0], [0.2, -3.0]])
    as_full = [FullGaussian(d.mean, jnp.diag(jnp.exp(d.log_std))) for d in (p, q)]
    np.testing.assert_allclose(jax.vmap(as_full[0].log_prob)(action), p.log_prob(action), rtol=1e-10)
    np.testing.assert_allclose(as_full[0].kl(as_full[1]), p.kl(q), rtol=1e-10)


def test_a_sample_of_a_full_covariance_is_the_noise_through_its_factor(x64: None):
    p = full(0)
    noise = jnp.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(p.sample_from(noise), p.mean + p.scale @ noise, rtol=1e-12)
    assert p.sample(jax.random.key(0)).shape == (3,)
    np.testing.assert_array_equal(p.mode(), p.mean)


def test_the_slope_of_a_gaussian_policy_has_no_factor_of_a_half(x64: None):
    """∇ log π = (∂f/∂θ)ᵀ Σ⁻¹ (a − f) for a mean f = W s, whose slope in W is an outer product."""
    p = full(0)
    weights, state, action = p.scale + 0.3, jnp.array([1.0, -0.5, 2.0]), jnp.array([0.3, -1.2, 0.7])
    found = jax.grad(lambda w: FullGaussian(w @ state, p.scale).log_prob(action))(weights)
    expected = np.outer(np.linalg.solve(covariance(p), action - weights @ state), state)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # In one dimension: (a − μ) / σ², with σ = 0.5.
    slope = jax.grad(
        lambda mean: DiagonalGaussian(mean, jnp.log(jnp.array([0.5]))).log_prob(jnp.array([1.5]))
    )
    np.testing.assert_allclose(slope(jnp.array([1.0])), [0.5 / 0.25], rtol=1e-12)
