import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.probes import Clock
from surefoot.envs.simulation import Outcome
from surefoot.samplers.batched import joined
from surefoot.samplers.record import Record, aligned_zeros
from surefoot.types import Rollout

STEPS = 5


def stream(truncated: list[list[int]], terminated: list[list[int]]) -> Rollout:
    """A stream for each row, recorded with one place for a final observation. What step t of row i leads to
    is 10 i + t + 1. The rows are added in another order than they have."""
    rows = np.arange(len(truncated))[::-1]
    record = Record(Clock(horizon=1000), len(rows), STEPS)
    for step in range(STEPS):
        cut, ended = (np.array([step in each[row] for row in rows]) for each in (truncated, terminated))
        led_to = (10.0 * rows + step + 1)[:, None].astype(np.float32)
        nothing = np.zeros(len(rows), np.float32)
        outcome = Outcome(led_to, nothing, ended, np.zeros(len(rows), bool))
        actions, times = np.zeros((len(rows), 1), np.float32), np.full(len(rows), step, np.int32)
        record.add(step, rows, led_to - 1, actions, nothing, outcome, cut, times)
    return record.rollout((len(rows),))


def test_one_final_observation_is_kept_where_nothing_is_truncated():
    rollout = stream([[], []], [[1, 3], []])
    np.testing.assert_array_equal(rollout.final_observations[..., 0], [[5], [15]])


def test_as_many_final_observations_are_kept_as_an_environment_truncates():
    rollout = stream([[0, 2, 4], [3], []], [[1], [0], [2, 4]])
    np.testing.assert_array_equal(
        rollout.final_observations[..., 0], [[1, 3, 5, 0, 0], [14, 15, 0, 0, 0], [25, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(rollout.final_times[0, :3], [1, 3, 5])
    on = ~np.asarray(rollout.terminated)
    expected = 10.0 * np.arange(3)[:, None] + np.arange(1, STEPS + 1)
    np.testing.assert_array_equal(rollout.next_observations[..., 0][on], expected[on])


def test_rollouts_with_different_numbers_of_final_observations_are_joined():
    few, many = stream([[]], [[]]), stream([[0, 2, 4]], [[]])
    rollout = joined([jax.tree.map(np.asarray, part) for part in (few, many)])
    expected = jnp.concatenate([few.next_observations, many.next_observations])
    np.testing.assert_array_equal(rollout.next_observations, expected)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator has memory of its own")
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_])
@pytest.mark.parametrize("shape", [(3, 5), (800, 7, 3)])
def test_on_a_cpu_what_was_recorded_is_not_copied(shape: tuple[int, ...], dtype: type):
    recorded = aligned_zeros(shape, dtype)
    recorded[1] = 1
    put = jax.device_put(recorded)
    assert put.unsafe_buffer_pointer() == recorded.ctypes.data
    assert put.dtype == dtype
    np.testing.assert_array_equal(np.asarray(put).sum(), recorded[1].size)
