import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.samples import categorical_policy
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP
from surefoot.types import Continuous, Discrete


@pytest.mark.parametrize("batch", [(), (4,), (3, 4)])
def test_predictions_have_the_shape_of_the_batch(batch: tuple[int, ...]):
    distribution = categorical_policy()(jnp.ones((*batch, 2)))
    assert distribution.logits.shape == (*batch, 3)
    action = distribution.sample(jax.random.key(0))
    assert action.dtype == jnp.int32
    assert action.shape == distribution.log_prob(action).shape == batch


def test_an_output_scale_of_zero_starts_uniform():
    policy = CategoricalMLP(output_scale=0.0).build(jax.random.key(0), 2, Discrete(4))
    distribution = policy(jax.random.normal(jax.random.key(1), (5, 2)))
    np.testing.assert_allclose(distribution.entropy(), np.log(4), rtol=1e-6)


def test_continuous_actions_are_refused_with_what_to_use_instead():
    with pytest.raises(UserError, match="--policy gaussian-mlp"):
        CategoricalMLP().build(jax.random.key(0), 2, Continuous(3))
