"""Every test runs with shapes checked, strict dtype promotion and warnings as errors."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu" if os.environ.get("SUREFOOT_TEST_GPU") is None else "")

from collections.abc import Iterator

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("surefoot", "beartype.beartype")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Almost all of the suite's time is compilation, and nearly half of that is optimising programs that run once.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module", autouse=True)
def _room() -> Iterator[None]:
    """Every compiled program takes some of the memory maps that a process may have, of which Linux grants
    65,530: without this, a worker that has run a thousand tests dies."""
    yield
    jax.clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision, for comparisons that single precision would blur."""
    with jax.enable_x64(True):
        yield
