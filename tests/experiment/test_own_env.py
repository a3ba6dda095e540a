"""The short check of one's own environment before training."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from surefoot.envs import AbstractEnv, Navigation2D, Step, Trial
from surefoot.experiment import Config, preset, train
from surefoot.experiment.many import train_many
from surefoot.experiment.own_env import check_own_env
from surefoot.options import UserError
from surefoot.types import Continuous, vector


@dataclass(frozen=True)
class Sound(AbstractEnv):
    horizon: int = 3
    observation_space = vector(1)
    action_space = Continuous(1)
    time_limit_ends_return = True

    def sample_tasks(self, key: Any, n: int) -> Any:
        return jax.random.uniform(key, (n,))

    def reset(self, key: Any, task: Any) -> Any:
        return jnp.zeros(1), jnp.zeros(1)

    def step(self, key: Any, state: Any, action: Any, task: Any) -> Step:
        return Step(state, state, -jnp.abs(task), jnp.array(False))


class UsesIf(Sound):
    def step(self, key: Any, state: Any, action: Any, task: Any) -> Step:
        reward = jnp.ones(()) if action[0] > 0 else jnp.zeros(())
        return Step(state, state, reward, jnp.array(False))


class LongObservation(Sound):
    def reset(self, key: Any, task: Any) -> Any:
        return jnp.zeros(1), jnp.zeros(2)


class Mutable(Sound):
    """As a dataclass without `frozen=True` it has no hash."""

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def config(env: Any) -> Config:
    return replace(preset("navigation-2d"), env=env)


@pytest.mark.parametrize(
    ("env", "told"),
    [
        (UsesIf(), "uses Python `if`"),
        (LongObservation(), r"float32\[2\]; it must be"),
        (Mutable(), "cannot be hashed"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(env: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"cannot be trained.*{told}.*surefoot check env"):
        train(config(env), tmp_path / "run")
    with pytest.raises(UserError, match=told):
        train_many({"one": config(env)}, tmp_path / "run")
    with pytest.raises(UserError, match=told):
        check_own_env(config(Trial(env, episodes=2)))
    assert list(tmp_path.iterdir()) == []


def test_a_sound_one_passes_and_the_library_s_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    check_own_env(config(Sound()))
    monkeypatch.setattr(Navigation2D, "reset", None)
    check_own_env(config(Navigation2D()))
