import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.networks import MLP, MLPOptions
from surefoot.options import UserError

KEY = jax.random.key(0)


def test_a_network_by_hand():
    weights = (jnp.array([[1.0, -1.0]]), jnp.array([[2.0], [3.0]]))
    network = MLP(weights, (jnp.array([0.5, 0.5]), jnp.array([-1.0])), "relu")
    # 1 → (1.5, −0.5) → (1.5, 0) → 3 − 1; the last layer is linear, so that its output can be negative.
    np.testing.assert_allclose(network(jnp.array([1.0])), [2.0])
    np.testing.assert_allclose(network(jnp.array([-0.5])), [2.0])
    np.testing.assert_allclose(MLP(weights[:1], (jnp.zeros(2),), "relu")(jnp.array([1.0])), [1.0, -1.0])


@pytest.mark.parametrize(
    ("activation", "at_minus_one"),
    [("relu", 0.0), ("tanh", np.tanh(-1)), ("elu", np.exp(-1) - 1), ("silu", -1 / (1 + np.e))],
)
def test_activations(activation: str, at_minus_one: float):
    one = (jnp.ones((1, 1)), jnp.ones((1, 1)))
    network = MLP(one, (jnp.zeros(1), jnp.zeros(1)), activation)
    np.testing.assert_allclose(network(jnp.array([-1.0])), [at_minus_one], rtol=1e-5)


@pytest.mark.parametrize(
    ("hidden", "shapes"), [((), [(3, 2)]), ((5,), [(3, 5), (5, 2)]), ((5, 4), [(3, 5), (5, 4), (4, 2)])]
)
def test_layers_have_the_sizes_asked_for(hidden: tuple[int, ...], shapes: list[tuple[int, int]]):
    network = MLPOptions(hidden=hidden).network(KEY, 3, 2)
    assert [w.shape for w in network.weights] == shapes
    assert all(not b.any() for b in network.biases)


@pytest.mark.parametrize(
    ("initialiser", "variance"),
    [("glorot", 2 / (40 + 60)), ("lecun", 1 / 40), ("he", 2 / 40)],
)
def test_initial_weights_have_the_variance_of_their_scheme(initialiser: str, variance: float):
    # 2400 draws: the standard error of a normal variable's sample variance is 2.9 % of it.
    weights = MLPOptions(hidden=(), initialiser=initialiser).network(KEY, 40, 60).weights[0]
    np.testing.assert_allclose(weights.var(), variance, rtol=0.12)
    assert abs(weights.mean()) < 4 * np.sqrt(variance / 2400)


def test_orthogonal_weights_are_orthogonal():
    weights = MLPOptions(hidden=(), initialiser="orthogonal").network(KEY, 6, 4).weights[0]
    np.testing.assert_allclose(weights.T @ weights, np.eye(4), atol=1e-5)


def test_the_output_scale_multiplies_the_last_layer_alone():
    plain = MLPOptions(hidden=(5,)).network(KEY, 3, 2)
    scaled = MLPOptions(hidden=(5,), output_scale=0.01).network(KEY, 3, 2)
    np.testing.assert_array_equal(scaled.weights[0], plain.weights[0])
    np.testing.assert_allclose(scaled.weights[1], 0.01 * plain.weights[1], rtol=1e-6)


@pytest.mark.parametrize("scale", [-1.0, float("inf"), float("nan")])
def test_an_output_scale_that_no_weights_can_have_is_refused(scale: float):
    with pytest.raises(UserError, match=rf"output-scale is {scale}; it must be 0 or more, and finite"):
        MLPOptions(output_scale=scale)
