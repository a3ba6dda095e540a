"""Every test runs with shapes checked, strict dtype promotion and warnings as errors."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu" if os.environ.get("SUREFOOT_TEST_GPU") is None else "")

from jaxtyping import install_import_hook

install_import_hook("surefoot", "beartype.beartype")

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
