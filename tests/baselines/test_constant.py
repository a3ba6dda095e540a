import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from support.samples import samples_at
from surefoot.baselines import Constant

KEY = jax.random.key(0)
RETURNS = jnp.array([[1.0, 2.0, 6.0], [3.0, 100.0, 100.0]])
VALID = jnp.array([[True, True, True], [True, False, False]])
SEEN = jnp.ones((*RETURNS.shape, 2))


def values(parameters: Array) -> Array:
    return Constant().values(parameters, jnp.ones((3, 2)), jnp.arange(3.0))


def test_it_is_the_mean_return_of_the_valid_steps():
    fitted = Constant().fit(Constant().init(KEY, 2, 3), samples_at(SEEN, RETURNS, VALID))
    np.testing.assert_array_equal(values(fitted), [3.0, 3.0, 3.0])


def test_before_anything_is_known_it_is_zero():
    np.testing.assert_array_equal(values(Constant().init(KEY, 2, 3)), jnp.zeros(3))


def test_it_forgets_what_it_learned_before():
    fitted = Constant().fit(jnp.array(50.0), samples_at(SEEN, RETURNS, VALID))
    assert fitted == 3.0


@pytest.mark.parametrize("padding", [1e3, jnp.nan])
def test_padding_may_be_anything(padding: float):
    soiled = samples_at(SEEN, jnp.where(VALID, RETURNS, padding), VALID)
    assert Constant().fit(jnp.zeros(()), soiled) == 3.0
