"""The cliff by hand, the claims at a small size, and that the experiment notices where they are not so."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.probes import Bowl, Point
from surefoot.lab import Collapse, run
from surefoot.lab.cliff import Cliff
from surefoot.lab.collapse import LongStep, Measured
from surefoot.networks import MLPOptions
from surefoot.options import UserError
from surefoot.policies.categorical import CategoricalMLPPolicy

SMALL = Collapse(deltas=(0.03, 10.0), seeds=6, methods=("TRPO without line search", "TRPO, fixed bound"))


def always(action: int, network_size: int = 3) -> CategoricalMLPPolicy:
    """A policy that takes one action everywhere, as good as surely."""
    network = MLPOptions((network_size,)).network(jax.random.key(0), 1, 3)
    zero = jax.tree.map(jnp.zeros_like, network)
    return CategoricalMLPPolicy(eqx.tree_at(lambda n: n.biases[-1], zero, 50.0 * jnp.eye(3)[action]))


def test_the_cliff_by_hand(x64: None):
    problem = Cliff.of(3, 4, 0.25).problem
    np.testing.assert_allclose(problem.mdp.rewards[:, 0], [1.0, 2 / 3, 1 / 3, 0.0])
    np.testing.assert_array_equal(problem.mdp.rewards[:, 1:], np.zeros((4, 2)))
    moves = problem.mdp.transitions
    np.testing.assert_allclose(moves[1, 0], [0.25, 0.75, 0.0, 0.0])
    np.testing.assert_allclose(moves[1, 1], [0.75, 0.0, 0.0, 0.25])
    np.testing.assert_allclose(moves[1, 2], [0.0, 0.25, 0.75, 0.0])
    np.testing.assert_allclose(moves[3], np.tile([0.0, 0.0, 0.0, 1.0], (3, 1)))


def test_going_one_way_for_ever_earns_little(x64: None):
    cliff = Cliff.of(3, 4, 0.0)
    np.testing.assert_allclose(cliff.value(always(0)), 4 / 3, rtol=1e-9)
    np.testing.assert_allclose(cliff.value(always(1)), 0.0, atol=1e-9)


def test_a_policy_whose_episodes_are_all_alike_learns_nothing_from_them(x64: None):
    cliff = Cliff.of(3, 4, 0.0)
    batch = cliff.batch(always(1), jax.random.key(0), 5)
    np.testing.assert_allclose(batch.advantages, np.zeros(20), atol=1e-12)
    # From lane 2 over the edge in three steps; the fourth is padding.
    np.testing.assert_array_equal(batch.valid.reshape(5, 4), np.tile([True, True, True, False], (5, 1)))


def test_advantages_compare_an_episode_with_the_others(x64: None):
    cliff = Cliff.of(4, 6, 0.2)
    even = CategoricalMLPPolicy(jax.tree.map(jnp.zeros_like, always(0).network))
    batch = cliff.batch(even, jax.random.key(0), 8)
    advantages = np.asarray(batch.advantages).reshape(8, 6)
    np.testing.assert_allclose(advantages.sum(axis=0), np.zeros(6), atol=1e-12)
    assert np.abs(advantages).max() > 0.5


def test_mean_and_largest_divergence(x64: None):
    cliff = Cliff.of(3, 4, 0.25)
    old = CategoricalMLPPolicy(jax.tree.map(jnp.zeros_like, always(0).network))
    new = CategoricalMLPPolicy(MLPOptions((3,)).network(jax.random.key(1), 1, 3))
    mean, largest = cliff.divergences(old, new)
    log_probs = np.asarray(jax.nn.log_softmax(new(cliff.observations).logits))[:3]
    by_lane = (1 / 3) * np.sum(np.log(1 / 3) - log_probs, axis=1)
    np.testing.assert_allclose(largest, by_lane.max(), rtol=1e-10)
    assert by_lane.min() < mean < largest


def test_a_long_first_attempt_is_brought_back_into_the_bound(x64: None):
    # The Fisher matrix is the identity: a nominal step of 2 nats has the length 2, and the bound 0.2.
    rule = LongStep(nominal=2.0, max_kl=0.02, damping=0.0)
    start = Point(3.0, 2.0)
    policy, _, _ = rule.step(Bowl([0.0, 1.0], [1.0, 4.0]), start, None, None)
    length = 2 * 0.7**7
    np.testing.assert_allclose(start.x - policy.x, [0.6 * length, 0.8 * length], rtol=1e-6)


@pytest.fixture(scope="module")
def found() -> dict[str, Measured]:
    with jax.enable_x64(True):
        return {name: SMALL.train(name, 3) for name in SMALL.methods}


def test_the_claims_hold_at_a_small_size_and_not_when_the_numbers_are_others(found: dict[str, Measured]):
    claims = SMALL._claims(found)
    assert [claim.measured for claim in claims if not claim.holds] == []
    assert len(claims) == 4
    free, held = SMALL.methods

    def altered(name: str, values: np.ndarray) -> list[bool]:
        return [x.holds for x in SMALL._claims({**found, name: replace(found[name], values=values)})]

    assert altered(free, np.full_like(found[free].values, 5.0)) == [False, False, True, False]
    falls = found[held].values.copy()
    falls[-1] *= 0.5
    assert altered(held, falls)[:3] == [True, True, False]


def test_short_steps_learn_and_the_search_keeps_its_bound(found: dict[str, Measured]):
    for x in found.values():
        assert np.all(x.end[0] > 2 * x.values[0, :, 0].mean())
    held = found["TRPO, fixed bound"].divergences
    assert 0 < held[..., 0].max() < 4 * SMALL.max_kl, "of the sampled states; of all states it may be more"
    assert np.all(held[..., 1] >= held[..., 0])


def test_the_mean_and_the_largest_divergence_that_the_page_on_trpo_gives(x64: None):
    name = "TRPO, bound δ"
    divergences = Collapse(deltas=(0.01, 0.03), methods=(name,)).train(name, 0).divergences[0]
    mean, largest = divergences.mean(axis=(0, 1))
    np.testing.assert_allclose([mean, largest], [0.008, 0.019], atol=5e-4)
    np.testing.assert_allclose(largest / mean, 2.5, atol=0.1)


def test_its_result_has_a_row_for_each_method_and_step(monkeypatch: pytest.MonkeyPatch, found: Any):
    monkeypatch.setattr(Collapse, "train", lambda self, name, seed: found[name])
    result = run(SMALL, seed=3)
    assert [row[:2] for row in result.rows] == [(name, d) for name in SMALL.methods for d in SMALL.deltas]
    assert result.png().startswith(b"\x89PNG")


def test_wrong_options_are_refused():
    with pytest.raises(UserError, match=r"deltas is \(0\.1,\); it must be two or more, ascending"):
        Collapse(deltas=(0.1,))
    with pytest.raises(UserError, match="deltas is"):
        Collapse(deltas=(1.0, 0.1))
    with pytest.raises(UserError, match="methods is"):
        Collapse(methods=("Newton",))
