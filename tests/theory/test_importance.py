import jax.numpy as jnp
import numpy as np

from surefoot.theory.importance import likelihood_ratio


def test_the_ratio_by_hand():
    ratios = likelihood_ratio(jnp.log(jnp.array([0.5, 0.2])), jnp.log(jnp.array([0.25, 0.4])))
    np.testing.assert_allclose(ratios, [2.0, 0.5], rtol=1e-6)


def test_the_ratio_is_one_at_the_policy_that_drew_the_data():
    log_probs = jnp.array([-3.0, 40.0, -80.0])
    np.testing.assert_array_equal(likelihood_ratio(log_probs, log_probs), jnp.ones(3))
