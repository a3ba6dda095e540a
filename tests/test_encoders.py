"""Encoders, and the networks behind them, for observations that are images or have parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from surefoot.baselines import LinearFeatures, ValueNetwork
from surefoot.encoders import Encoder, convolve
from surefoot.options import UserError
from surefoot.policies import GRU, ActorCritic, CategoricalMLP, PredictNextObservation
from surefoot.types import Discrete, image, vector

KEY = jax.random.key(0)
SCENE = {"camera": image(8, 9, 2), "speed": vector(3)}


def scene(*axes: int) -> dict[str, jax.Array]:
    camera, speed = jax.random.split(KEY)
    return {
        "camera": jax.random.randint(camera, (*axes, 8, 9, 2), 0, 256, jnp.uint8),
        "speed": jax.random.normal(speed, (*axes, 3)),
    }


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_scipys_correlation(stride: int):
    x, kernel = jax.random.normal(KEY, (4, 7, 8, 3)), jax.random.normal(KEY, (2, 4, 3, 5))
    got = convolve(x, kernel, stride)
    for n in range(4):
        for channel in range(5):
            full = correlate(np.asarray(x[n]), np.asarray(kernel[..., channel]), "valid")[..., 0]
            np.testing.assert_allclose(got[n, ..., channel], full[::stride, ::stride], atol=1e-4)


def test_vectors_are_left_alone_and_parts_stand_one_after_another():
    x = jax.random.normal(KEY, (2, 3))
    assert Encoder.new(KEY, 3, "auto")(x) is x
    pair = Encoder.new(KEY, {"b": vector(1), "a": vector(2)}, "auto")
    np.testing.assert_array_equal(pair({"b": x[:, :1], "a": x[:, 1:]}), jnp.roll(x, -1, axis=-1))


@pytest.mark.parametrize(
    ("name", "side", "kernels"),
    [("auto", 84, 3), ("auto", 10, 1), ("auto", 2, 0), ("nature", 10, 0), ("flat", 84, 0)],
)
def test_the_network_is_chosen_by_the_image(name, side: int, kernels: int):
    (part,) = Encoder.new(KEY, image(side, side, 1), name).parts
    assert part is not None
    assert len(part.kernels) == kernels


def test_the_published_networks_have_their_sizes():
    assert Encoder.new(KEY, image(84, 84, 4), "nature").size(image(84, 84, 4)) == 7 * 7 * 64
    assert Encoder.new(KEY, image(10, 10, 4), "small").size(image(10, 10, 4)) == 8 * 8 * 16


def test_bytes_are_scaled_in_the_network_and_real_numbers_are_not():
    pixels = scene()["camera"]
    encoder = Encoder.new(KEY, image(8, 9, 2), "small")
    np.testing.assert_allclose(encoder(pixels), encoder(pixels.astype(float) / 255), rtol=1e-6)


@pytest.mark.parametrize("options", [CategoricalMLP(), GRU(), ActorCritic()])
def test_policies_of_a_scene_treat_every_leading_axis_alike(options):
    policy = options.build(KEY, SCENE, Discrete(3))
    many = policy(scene(2, 4)).logits
    assert many.shape == (2, 4, 3)
    # One step only, since a recurrent policy takes rows for episodes.
    rows = jax.tree.map(lambda x: x[:, :1], scene(2, 4))
    one = policy(jax.tree.map(lambda x: x[1], rows)).logits
    np.testing.assert_allclose(one, policy(rows).logits[1], atol=1e-6)
    changed = scene(2, 4) | {"camera": 255 - scene(2, 4)["camera"]}
    assert not np.allclose(policy(changed).logits, many)


def test_a_value_network_sees_images():
    baseline = ValueNetwork(hidden=(4,))
    values = baseline.values(baseline.init(KEY, SCENE, 5), scene(5), jnp.arange(5.0))
    assert np.unique(values).size == 5


def test_linear_features_take_parts_one_after_another():
    baseline = LinearFeatures()
    parts = {"a": vector(2), "b": vector(1)}
    assert baseline.init(KEY, parts, 5).shape == baseline.init(KEY, 3, 5).shape
    x, weights = jax.random.normal(KEY, (5, 3)), jnp.arange(10.0)
    apart = baseline.values(weights, {"a": x[:, :2], "b": x[:, 2:]}, jnp.arange(5.0))
    np.testing.assert_array_equal(apart, baseline.values(weights, x, jnp.arange(5.0)))


def test_what_cannot_serve_images_says_so():
    with pytest.raises(UserError, match="says nothing of an image"):
        LinearFeatures().init(KEY, SCENE, 5)
    with pytest.raises(UserError, match="predicted where it is one vector"):
        ActorCritic(auxiliary=PredictNextObservation()).build(KEY, SCENE, Discrete(3))
