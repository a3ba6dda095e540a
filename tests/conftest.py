"""Every test runs with shapes checked, strict dtype promotion and warnings as errors."""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu" if os.environ.get("SUREFOOT_TEST_GPU") is None else "")
# Almost all of the suite's time is compilation. What one worker has compiled no other compiles again; where
# the variable names a folder that stays, the next run does not either.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="surefoot-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Most of the time to compile is for optimising programs that run once. Workers and commands that tests start
# read the same variables. `tests/experiment/test_as_users.py` runs what must hold of optimised programs.
if "SUREFOOT_TEST_AS_USERS" not in os.environ:
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    flags = ["--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE", "--xla_cpu_parallel_codegen_split_count=1"]
    # A newer one has no such flag, and ends at one that it does not know.
    if version("jaxlib").startswith("0.10."):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join(flags)

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

if "SUREFOOT_TEST_AS_USERS" not in os.environ:
    install_import_hook("surefoot", "beartype.beartype")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Tracing makes many objects that live on: looking through them less often saves a twelfth of the time.
gc.set_threshold(200_000, 20, 100)


SLOW = frozenset(Path(__file__).with_name("slow.txt").read_text(encoding="utf-8").splitlines())
"""Tests that are too slow for every change: files, functions, or one case of a function."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that `slow.txt` names."""
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        if SLOW & {name, name.partition("[")[0], name.partition("::")[0]}:
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test makes importable is not so for the next, nor for the worker processes it starts."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="module", autouse=True)
def _free_programs() -> Iterator[None]:
    """Every compiled program takes some of the memory maps that a process may have, of which Linux grants
    65,530: without this, a worker that has run a thousand tests dies."""
    yield
    jax.clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision, for comparisons that single precision would blur."""
    with jax.enable_x64(True):
        yield
