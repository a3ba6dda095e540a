"""Panels: pictures of one episode with captions, and panels joined into one picture."""

from functools import lru_cache
from typing import Any

import matplotlib.font_manager
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from surefoot.report.cameras import AbstractCamera
from surefoot.report.filming import Film

_BEFORE, _AFTER, _INK = "#52606d", "#0b6e99", "#1f2933"
_STRIP, _GAP, _FONT_SIZE = 24, 4, 13
"""The height of a panel's title, the gap between panels and the font size, in pixels."""


class Panel:
    """One film, drawn and captioned."""

    def __init__(self, camera: AbstractCamera, film: Film) -> None:
        self._camera, self._film = camera, film
        self._drawn: tuple[int, np.ndarray] | None = None

    def at(self, time: int) -> UInt8[np.ndarray, "height width 3"]:
        """The picture after `time` steps, or at the film's end if that was before."""
        now = min(time, len(self._film.recorded) - 1)
        if self._drawn is None or self._drawn[0] != now:
            self._drawn = now, self._draw(now)
        return self._drawn[1]

    def _draw(self, now: int) -> np.ndarray:
        film = self._film
        picture = Image.fromarray(self._camera.draw(film.row, film.recorded[now]))
        width, height = picture.width, picture.height + _STRIP
        panel = Image.new("RGB", (width, height), _BEFORE if film.label == "before" else _AFTER)
        panel.paste(picture, (0, _STRIP))
        draw, middle, low = ImageDraw.Draw(panel), _STRIP // 2, height - 8
        draw.text((8, middle), film.label, "white", _font("bold"), anchor="lm")
        draw.text((width - 8, middle), self._camera.caption(film.row), "white", _font("normal"), anchor="rm")
        earned, status = f"return {film.returns[now]:.1f}".replace("-", "−"), self._camera.status(now)
        if film.terminated and now == len(film.recorded) - 1:
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
