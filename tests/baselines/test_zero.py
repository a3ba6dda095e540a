import jax
import jax.numpy as jnp
import numpy as np

from surefoot.baselines import Zero


def test_it_says_zero_whatever_it_saw():
    fitted = Zero().fit(jnp.ones((2, 3, 1)), jnp.ones((2, 3)), jnp.ones((2, 3), bool))
    np.testing.assert_array_equal(Zero().values(fitted, jnp.ones((3, 1)), jnp.arange(3.0)), jnp.zeros(3))
    assert jax.tree.leaves(Zero().init(5)) == []
