import jax
import jax.numpy as jnp
import numpy as np

from support.samples import samples_at
from surefoot.baselines import Zero


def test_it_says_zero_whatever_it_saw():
    unfitted = Zero().init(jax.random.key(0), 5, 3)
    samples = samples_at(jnp.ones((2, 3, 1)), jnp.ones((2, 3)), jnp.ones((2, 3), bool))
    fitted = Zero().fit(unfitted, samples)
    np.testing.assert_array_equal(Zero().values(fitted, jnp.ones((3, 1)), jnp.arange(3.0)), jnp.zeros(3))
    assert jax.tree.leaves(unfitted) == []
