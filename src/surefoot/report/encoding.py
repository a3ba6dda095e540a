"""Pictures one after another, as files that anything can play: MP4 and GIF."""

import importlib
import io
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from surefoot.options import UserError


def encode(
    frames: Iterable[UInt8[np.ndarray, "height width 3"]], hundredths: int, formats: tuple[str, ...]
) -> dict[str, bytes]:
    """The files' content by format, `mp4` or `gif`, each frame shown for so many hundredths of a second.

    A GIF has the 256 colours of its first frame. Raises `UserError` if there is no encoder for MP4.
    """
    contents: dict[str, bytes] = {}
    animation: list[Image.Image] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "film.mp4"
        with _Movie(file, 100 / hundredths) if "mp4" in formats else nullcontext() as movie:
            for frame in frames:
                if movie:
                    movie.add(frame)
                if "gif" in formats:
                    animation.append(_few_colours(frame, animation))
        if movie:
            contents["mp4"] = file.read_bytes()
    if animation:
        buffer = io.BytesIO()
        animation[0].save(
            buffer, "GIF", save_all=True, append_images=animation[1:], duration=10 * hundredths, loop=0
        )
        contents["gif"] = buffer.getvalue()
    return contents


class _Movie:
    """An MP4 in the making. A context manager; the file is complete after it."""

    def __init__(self, file: Path, rate: float) -> None:
        """Raises `UserError` if there is no encoder."""
        try:
            self._program = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
        except (ImportError, RuntimeError) as error:
            raise UserError(
                f"MP4 needs ffmpeg, and there is no way to it: {error}. Install it: pip install "
                "'surefoot[mujoco]'; or ask for --format gif."
            ) from error
        self._file, self._rate = file, rate
        self._encoder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "_Movie":
        return self

    def add(self, frame: UInt8[np.ndarray, "height width 3"]) -> None:
        """The next frame."""
        if self._encoder is None:
            self._encoder = self._start(frame.shape[1], frame.shape[0])
        assert self._encoder.stdin is not None
        self._encoder.stdin.write(frame.tobytes())

    def _start(self, width: int, height: int) -> "subprocess.Popen[bytes]":
        # imageio would start it with a function to run in the child, and so by fork, which JAX's threads may
        # not survive. 4:2:0 is what every browser plays.
        taken = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(self._rate)]
        made = ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        words = [self._program, "-loglevel", "error", "-y", *taken, "-i", "-", *made, str(self._file)]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._encoder is None:
            return
        if kind:
            self._encoder.kill()
        _, complaint = self._encoder.communicate()
        if self._encoder.returncode and (kind is None or kind is BrokenPipeError):
            raise UserError(
                f"ffmpeg failed: {complaint.decode(errors='replace').strip()}. Try --format gif."
            ) from error


def _few_colours(frame: np.ndarray, before: list[Image.Image]) -> Image.Image:
    image = Image.fromarray(frame)
    if not before:
        return image.quantize(256)
    return image.quantize(palette=before[0], dither=Image.Dither.NONE)
