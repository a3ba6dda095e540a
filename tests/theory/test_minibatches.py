import jax
import numpy as np
import pytest

from surefoot.theory.minibatches import shuffled

KEY = jax.random.key(0)


@pytest.mark.parametrize(("samples", "minibatches"), [(12, 1), (12, 4), (12, 12), (1, 1)])
def test_every_sample_is_in_exactly_one_minibatch(samples: int, minibatches: int):
    parts = shuffled(KEY, samples, minibatches)
    assert parts.shape == (minibatches, samples // minibatches)
    np.testing.assert_array_equal(np.sort(np.ravel(parts)), np.arange(samples))


def test_the_few_that_are_over_are_left_out_and_others_each_time():
    keys = jax.random.split(KEY, 20)
    all_parts = [np.asarray(shuffled(key, 11, 4)) for key in keys]
    assert {part.shape for part in all_parts} == {(4, 2)}
    assert {len(set(part.ravel().tolist())) for part in all_parts} == {8}
    left_out = [set(range(11)) - set(part.ravel().tolist()) for part in all_parts]
    assert set.union(*left_out) == set(range(11))


@pytest.mark.parametrize(("samples", "minibatches"), [(40, 4), (43, 5), (70_000, 7)])
def test_what_is_valid_is_shared_out_alike(samples: int, minibatches: int):
    valid = jax.random.bernoulli(jax.random.key(2), 0.3, (samples,))
    parts = np.asarray(shuffled(KEY, samples, minibatches, valid))
    counts = np.asarray(valid)[parts].sum(axis=1)
    assert counts.max() - counts.min() <= 1
    assert counts.sum() == valid.sum(), "what is left out is padding"
    assert len(set(parts.ravel().tolist())) == parts.size
    other = np.asarray(shuffled(jax.random.key(1), samples, minibatches, valid))
    assert set(other[0].tolist()) != set(parts[0].tolist())


def test_samples_are_drawn_anew_with_another_key_and_alike_with_the_same():
    first, again, other = (shuffled(key, 12, 3) for key in (KEY, KEY, jax.random.key(1)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(np.ravel(first), np.arange(12))
