from dataclasses import replace

import jax.numpy as jnp
import pytest

from surefoot.algorithms.reporting import Progress, count_adaptation, no_steps, total_steps
from surefoot.envs import Navigation2D
from surefoot.samplers.base import empty_rollout
from surefoot.types import Rollout


@pytest.fixture
def rollout() -> Rollout:
    """Two rows of three steps: the first ends an episode after two, the second after one, and then stops."""
    return replace(
        empty_rollout(Navigation2D(), (2, 3)),
        rewards=jnp.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]),
        valid=jnp.array([[True, True, True], [True, False, False]]),
        terminated=jnp.array([[False, True, False], [False, False, False]]),
        truncated=jnp.array([[False, False, False], [True, False, False]]),
    )


def described(progress: Progress) -> dict[str, float]:
    return {name: float(value) for name, value in progress.describe().items()}


def test_episodes_that_ended_are_reported(rollout: Rollout) -> None:
    progress = Progress.start(2).after(rollout)
    assert described(progress) == {"return": 5.5, "episode_length": 1.5, "steps": 4.0}
    # The first row goes on with the episode that it is in, of reward 4 so far.
    assert described(progress.after(rollout)) == {"return": 7.5, "episode_length": 2.0, "steps": 8.0}


def test_before_any_end_the_length_is_zero(rollout: Rollout) -> None:
    endless = replace(
        rollout, terminated=jnp.zeros_like(rollout.valid), truncated=jnp.zeros_like(rollout.valid)
    )
    assert described(Progress.start(2).after(endless)) == {"return": 0.0, "episode_length": 0.0, "steps": 4.0}


def test_without_an_end_the_last_ones_stand(rollout: Rollout) -> None:
    endless = replace(
        rollout, terminated=jnp.zeros_like(rollout.valid), truncated=jnp.zeros_like(rollout.valid)
    )
    progress = Progress.start(2).after(rollout).after(endless)
    assert described(progress) == {"return": 5.5, "episode_length": 1.5, "steps": 8.0}


def test_steps_of_every_phase_of_adaptation_count(rollout: Rollout) -> None:
    once = count_adaptation(no_steps(), (rollout, rollout))
    assert float(total_steps(count_adaptation(once, (rollout,)))) == 12


def test_steps_are_counted_beyond_what_32_bits_hold(rollout: Rollout) -> None:
    progress = replace(Progress.start(2), steps=jnp.array([4_999, 999_999], jnp.int32)).after(rollout)
    assert progress.steps.tolist() == [5_000, 3]
    assert described(progress)["steps"] == pytest.approx(5e9, rel=1e-7)
