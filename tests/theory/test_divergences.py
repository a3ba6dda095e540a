import jax.numpy as jnp
import numpy as np

from surefoot.theory.distributions import Categorical, DiagonalGaussian
from surefoot.theory.divergences import mean_entropy, mean_kl

# Three steps, the last of them padding: N(0, 1) against N(0, e²) and N(1, 1).
OLD = DiagonalGaussian(jnp.zeros((3, 1)), jnp.zeros((3, 1)))
NEW = DiagonalGaussian(jnp.array([[0.0], [1.0], [jnp.nan]]), jnp.array([[1.0], [0.0], [jnp.nan]]))
VALID = jnp.array([True, True, False])


def test_mean_kl_is_that_of_the_new_policy_from_the_old_over_valid_steps():
    first = 1 + 0.5 * np.exp(-2) - 0.5
    np.testing.assert_allclose(mean_kl(OLD, NEW, VALID), (first + 0.5) / 2, rtol=1e-6)


def test_mean_kl_has_a_direction():
    first = -1 + 0.5 * np.exp(2) - 0.5
    np.testing.assert_allclose(mean_kl(NEW, OLD, VALID), (first + 0.5) / 2, rtol=1e-6)
    assert abs(mean_kl(NEW, OLD, VALID) - mean_kl(OLD, NEW, VALID)) > 0.5


def test_mean_entropy_over_valid_steps():
    unit = 0.5 * (1 + np.log(2 * np.pi))
    np.testing.assert_allclose(mean_entropy(NEW, VALID), unit + 0.5, rtol=1e-6)


def test_entropy_is_the_logarithm_of_n_less_the_divergence_from_the_uniform_policy(x64: None):
    """In this direction: the divergence of the uniform policy from the other is another number."""
    p = np.array([0.9, 0.09, 0.01])
    policy, uniform, one = Categorical(jnp.log(p)[None]), Categorical(jnp.zeros((1, 3))), jnp.array([True])
    entropy = -np.sum(p * np.log(p))
    np.testing.assert_allclose(mean_entropy(policy, one), entropy, rtol=1e-13)
    np.testing.assert_allclose(np.log(3) - mean_kl(policy, uniform, one), entropy, rtol=1e-13)
    assert abs(mean_kl(uniform, policy, one) - mean_kl(policy, uniform, one)) > 0.1
