"""What is known of episodes at one moment."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class Snapshot(NamedTuple):
    """Of some rows, in MuJoCo's coordinates and units (metres, seconds, newtons), in double precision."""

    qpos: Float[np.ndarray, "rows nq"]
    qvel: Float[np.ndarray, "rows nv"]
    measured: Mapping[str, Float[np.ndarray, "rows ..."]]
    """By name, what the family reads of MuJoCo's data beside the state, as MuJoCo left it."""


def forward_velocity(before: Snapshot, after: Snapshot, dt: float) -> Float[np.ndarray, " rows"]:
    """The mean velocity along x over a step of `dt` seconds, of a body whose first coordinate is x."""
    return (after.qpos[:, 0] - before.qpos[:, 0]) / dt


def squared(x: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    """Each row's squared length."""
    return np.sum(np.square(x), axis=1)


def walking(
    before: Snapshot,
    after: Snapshot,
    dt: float,
    fallen: Bool[np.ndarray, " rows"],
    controls: Float[np.ndarray, "rows nu"],
) -> Float[np.ndarray, " rows"]:
    """Gymnasium's reward of bodies that may fall, Hopper and Walker2d: forward velocity, 1 while they stand,
    and 0.001 times the squared control less."""
    return forward_velocity(before, after, dt) + ~fallen - 1e-3 * squared(controls)
