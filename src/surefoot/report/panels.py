"""Panels: pictures of one episode with captions, and panels joined into one picture."""

from functools import lru_cache
from typing import Any

import matplotlib.font_manager
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from surefoot.envs.mujoco.binding import mujoco
from surefoot.envs.mujoco.family import AbstractMujocoFamily
from surefoot.envs.mujoco.rendering import Screen
from surefoot.report.filming import Film

_BEFORE, _AFTER, _INK = "#52606d", "#0b6e99", "#1f2933"
_STRIP, _GAP, _FONT_SIZE = 24, 4, 13
"""The height of a panel's title, the gap between panels and the font size, in pixels."""


class Panel:
    """One film, drawn on a screen and captioned."""

    def __init__(self, screen: Screen, env: AbstractMujocoFamily, film: Film) -> None:
        """`screen` draws the film's model."""
        self._screen, self._film, self._dt = screen, film, env.dt
        self._data = mujoco().MjData(film.model)
        self._view = env.view(film.task, film.model)
        self._task = env.describe(film.task, film.model)
        self._drawn: tuple[int, np.ndarray] | None = None

    def at(self, time: int) -> UInt8[np.ndarray, "height width 3"]:
        """The picture after `time` steps, or at the film's end if that was before."""
        now = min(time, len(self._film.positions) - 1)
        if self._drawn is None or self._drawn[0] != now:
            self._drawn = now, self._draw(now)
        return self._drawn[1]

    def _draw(self, now: int) -> np.ndarray:
        film = self._film
        self._data.qpos[:] = film.positions[now]
        mujoco().mj_fwdPosition(film.model, self._data)
        picture = Image.fromarray(self._screen.draw(self._data, self._view))
        width, height = picture.width, picture.height + _STRIP
        panel = Image.new("RGB", (width, height), _BEFORE if film.label == "before" else _AFTER)
        panel.paste(picture, (0, _STRIP))
        draw, middle, low = ImageDraw.Draw(panel), _STRIP // 2, height - 8
        draw.text((8, middle), film.label, "white", _font("bold"), anchor="lm")
        draw.text((width - 8, middle), self._task, "white", _font("normal"), anchor="rm")
        earned, status = f"return {film.returns[now]:.1f}".replace("-", "−"), f"{now * self._dt:.2f} s"
        if film.terminated and now == len(film.positions) - 1:
            status = f"ended at {status}"
        outline: dict[str, Any] = {"stroke_width": 2, "stroke_fill": _INK}
        draw.text((8, low), earned, "white", _font("bold"), anchor="ls", **outline)
        draw.text((width - 8, low), status, "white", _font("normal"), anchor="rs", **outline)
        return np.asarray(panel)


def joined(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    """Pictures side by side (`axis` 1) or one below the other (0), with a gap between."""
    shape = list(pictures[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, 255, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=axis)


@lru_cache
def _font(weight: str) -> Any:
    file = matplotlib.font_manager.findfont(
        matplotlib.font_manager.FontProperties(family="DejaVu Sans", weight=weight)
    )
    return ImageFont.truetype(file, _FONT_SIZE)
