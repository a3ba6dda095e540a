import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.samples import samples_at
from surefoot.baselines import LinearFeatures
from surefoot.options import UserError

KEY = jax.random.key(0)
OBSERVATIONS = jax.random.normal(KEY, (4, 6, 2))
TIMES = jnp.arange(6.0)
ALL = jnp.ones((4, 6), bool)


@jax.jit
def fit(observations: jax.Array, returns: jax.Array, valid: jax.Array) -> jax.Array:
    nothing = LinearFeatures().init(KEY, observations.shape[-1], 6)
    return LinearFeatures().fit(nothing, samples_at(observations, returns, valid))


def values(weights: jax.Array, observations: jax.Array = OBSERVATIONS) -> jax.Array:
    return jax.vmap(lambda o: LinearFeatures().values(weights, o, TIMES[: o.shape[0]]))(observations)


def linear_target(observations: jax.Array) -> jax.Array:
    tau = TIMES / 100
    return 2 * observations[..., 0] - observations[..., 1] ** 2 + 30 * tau + 5.0


def test_the_features_by_hand():
    observation, time = jnp.array([[2.0]]), jnp.array([50.0])
    # s, s², τ, τ², τ³, 1 one at a time, with s = 2 and τ = ½.
    features = [LinearFeatures().values(one, observation, time)[0] for one in jnp.eye(6)]
    np.testing.assert_allclose(features, [2.0, 4.0, 0.5, 0.25, 0.125, 1.0], rtol=1e-6)
    several = jnp.array([3.0, 0.5, 2.0, 0.0, 0.0, -1.0])
    np.testing.assert_allclose(LinearFeatures().values(several, observation, time), [8.0], rtol=1e-6)


def test_before_anything_is_known_values_are_zero():
    np.testing.assert_array_equal(values(LinearFeatures().init(KEY, 2, 6)), jnp.zeros((4, 6)))


def test_a_target_linear_in_the_features_is_recovered():
    target = linear_target(OBSERVATIONS)
    weights = fit(OBSERVATIONS, target, ALL)
    np.testing.assert_allclose(values(weights), target, atol=2e-3)
    # On other observations too.
    elsewhere = jax.random.normal(jax.random.key(1), (2, 6, 2))
    np.testing.assert_allclose(values(weights, elsewhere), linear_target(elsewhere), atol=1e-2)


def test_it_agrees_with_the_direct_solution_of_a_ridge_regression(x64: None):
    ridge = 0.1
    observations = jax.random.normal(KEY, (4, 6, 1))
    returns = jax.random.normal(jax.random.key(1), (4, 6))
    tau = np.broadcast_to(np.arange(6)[None, :, None] / 100, (4, 6, 1))
    o = np.asarray(observations)
    x = np.concatenate([o, o**2, tau, tau**2, tau**3, np.ones_like(tau)], axis=-1).reshape(24, 6)
    scale = np.sqrt((x**2).mean(0))
    z = x / scale
    expected = (
        np.linalg.solve(z.T @ z + 24 * ridge * np.eye(6), z.T @ np.asarray(returns).reshape(24)) / scale
    )
    baseline = LinearFeatures(ridge=ridge)
    got = baseline.fit(baseline.init(KEY, 1, 6), samples_at(observations, returns, ALL))
    np.testing.assert_allclose(got, expected, rtol=1e-8)


@pytest.mark.parametrize(
    "make", [jnp.zeros_like, jnp.ones_like, lambda o: jnp.concatenate([o[..., :1]] * 2, -1)]
)
def test_repeated_and_constant_features_do_no_harm(make: object):
    observations = make(OBSERVATIONS)
    target = jnp.broadcast_to(30 * TIMES / 100 + 5.0, (4, 6))
    weights = fit(observations, target, ALL)
    assert jnp.isfinite(weights).all()
    np.testing.assert_allclose(values(weights, observations), target, atol=2e-3)


def test_fewer_steps_than_features_do_no_harm():
    one = jnp.zeros((4, 6), bool).at[0, 0].set(True)
    weights = fit(OBSERVATIONS, jnp.full((4, 6), 3.0), one)
    np.testing.assert_allclose(values(weights)[0, 0], 3.0, atol=1e-3)


def test_it_learns():
    noisy = linear_target(OBSERVATIONS) + 0.5 * jax.random.normal(jax.random.key(1), (4, 6))
    after = jnp.mean((values(fit(OBSERVATIONS, noisy, ALL)) - noisy) ** 2)
    constant = jnp.var(noisy)
    assert after < 0.25
    assert constant > 2.5


def test_padding_is_ignored_whatever_stands_in_it():
    valid = jnp.arange(6) < jnp.array([6, 4, 2, 1])[:, None]
    target = linear_target(OBSERVATIONS)
    clean = fit(OBSERVATIONS, target, valid)
    soiled = fit(jnp.where(valid[..., None], OBSERVATIONS, jnp.nan), jnp.where(valid, target, jnp.nan), valid)
    np.testing.assert_array_equal(soiled, clean)
    assert jnp.isfinite(clean).all()


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_returns_that_are_not_finite_leave_no_weight_finite(bad: float):
    weights = fit(OBSERVATIONS, linear_target(OBSERVATIONS).at[1, 2].set(bad), ALL)
    assert jnp.isnan(weights).all()


def test_a_negative_ridge_is_refused():
    with pytest.raises(UserError, match=r"ridge is -1.0; it must be 0 or more"):
        LinearFeatures(ridge=-1.0)
