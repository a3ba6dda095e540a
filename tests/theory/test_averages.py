import jax
import jax.numpy as jnp
import numpy as np

from surefoot.theory.averages import valid_mean

VALUES = jnp.array([[1.0, 2.0], [6.0, jnp.nan]])
VALID = jnp.array([[True, True], [True, False]])


def test_only_valid_steps_are_averaged():
    assert valid_mean(VALUES, VALID) == 3.0


def test_the_gradient_is_untouched_by_nan_padding():
    np.testing.assert_allclose(jax.grad(valid_mean)(VALUES, VALID), [[1 / 3, 1 / 3], [1 / 3, 0]], rtol=1e-6)


def test_the_mean_of_nothing_is_zero_with_a_zero_gradient():
    nothing = jnp.zeros_like(VALID)
    assert valid_mean(VALUES, nothing) == 0.0
    np.testing.assert_array_equal(jax.grad(valid_mean)(VALUES, nothing), jnp.zeros((2, 2)))
