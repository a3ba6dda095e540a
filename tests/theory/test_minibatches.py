from dataclasses import replace
from itertools import product

import jax
import numpy as np
import pytest
import scipy.stats

from support.dense import gradient_of, ravel
from support.samples import categorical_policy, random_batch
from surefoot.theory.minibatches import shuffled
from surefoot.theory.objectives import PolicyObjective, surrogate

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


def test_mean_and_covariance_of_a_minibatch_s_gradient_are_those_of_drawing_without_replacement(x64: None):
    """By listing all subsets of five samples; that of all five has no variance."""
    n, policy = 5, categorical_policy(hidden=())
    batch = jax.tree.map(lambda x: x[0], random_batch(policy, jax.random.key(1), episodes=1, time=n))
    assert batch.valid.all()

    @jax.jit
    @jax.vmap
    def gradient(members: jax.Array) -> jax.Array:
        return ravel(gradient_of(PolicyObjective(surrogate), policy, replace(batch, valid=members))[1])

    subsets = np.array(list(product([False, True], repeat=n))[1:])
    gradients, sizes = np.asarray(gradient(subsets)), subsets.sum(axis=1)
    spread = np.cov(gradients[sizes == 1].T, ddof=0)
    assert np.linalg.norm(spread) > 0.1
    for m in range(1, n + 1):
        found = gradients[sizes == m]
        np.testing.assert_allclose(found.mean(axis=0), gradients[-1], atol=1e-14)
        np.testing.assert_allclose(np.cov(found.T, ddof=0), (n - m) / (m * (n - 1)) * spread, atol=1e-14)


@pytest.mark.parametrize(("samples", "minibatches", "outcomes"), [(6, 3, 90), (5, 2, 30)])
def test_every_division_of_the_samples_is_equally_likely_and_uses_none_of_them_twice(
    samples: int, minibatches: int, outcomes: int
):
    """6! / 2!³ divisions into three pairs, and 5! / 2!² into two pairs and one that is left out: a chi-square
    test over 30,000 keys."""
    keys = jax.random.split(KEY, 30_000)
    parts = np.sort(jax.jit(jax.vmap(lambda key: shuffled(key, samples, minibatches)))(keys), axis=-1)
    flat = np.sort(parts.reshape(len(keys), -1), axis=1)
    assert (np.diff(flat, axis=1) > 0).all()
    assert flat.min() == 0
    assert flat.max() == samples - 1
    divisions, counts = np.unique(parts.reshape(len(keys), -1), axis=0, return_counts=True)
    assert len(divisions) == outcomes
    assert scipy.stats.chisquare(counts).pvalue > 0.01
