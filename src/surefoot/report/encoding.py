"""Frames encoded as MP4 and GIF."""

import importlib
import io
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from surefoot.options import UserError


def encode(
    frames: Iterator[UInt8[np.ndarray, "height width 3"]], hundredths: int, formats: tuple[str, ...]
) -> dict[str, bytes]:
    """The files' content by format, `mp4` or `gif`. Each frame is shown for `hundredths` of a second.

    A GIF has the 256 colours of its first frame. Raises `UserError` if there is no encoder for MP4.
    """
    contents: dict[str, bytes] = {}
    images: list[Image.Image] = []
    first = next(frames)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "film.mp4"
        movie = _movie(file, first.shape, 100 / hundredths) if "mp4" in formats else nullcontext()
        with movie as write:
            for frame in chain([first], frames):
                if write:
                    write(frame.tobytes())
                if "gif" in formats:
                    image = Image.fromarray(frame)
                    palette = images[0] if images else None
                    images.append(image.quantize(256, palette=palette, dither=Image.Dither.NONE))
        if "mp4" in formats:
            contents["mp4"] = file.read_bytes()
    if images:
        buffer = io.BytesIO()
        images[0].save(
            buffer, "GIF", save_all=True, append_images=images[1:], duration=10 * hundredths, loop=0
        )
        contents["gif"] = buffer.getvalue()
    return contents


@contextmanager
def _movie(file: Path, shape: tuple[int, ...], rate: float) -> Iterator[Callable[[bytes], object]]:
    """Encodes the frames that are written to it as an MP4, which is complete afterwards."""
    try:
        program = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"MP4 needs ffmpeg, which was not found: {error}. Install it: pip install 'surefoot[mujoco]'; or "
            "ask for --format gif."
        ) from error
    # imageio's own writer would start ffmpeg by a fork that runs Python in the child, which JAX's threads may
    # not survive, and does not report its failure. 4:2:0 is what every browser shows.
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{shape[1]}x{shape[0]}", "-r", str(rate)]
    target = ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(file)]
    command = [program, "-loglevel", "error", "-y", *source, "-i", "-", *target]
    encoder = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0)
    assert encoder.stdin is not None
    try:
        yield encoder.stdin.write
    except BrokenPipeError:
        pass  # ffmpeg ended early; its message says why
    except BaseException:
        encoder.kill()
        raise
    finally:
        _, message = encoder.communicate()
    if encoder.returncode:
        raise UserError(f"ffmpeg failed: {message.decode(errors='replace').strip()}. Try --format gif.")
