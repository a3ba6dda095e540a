"""What an accelerator computes is what the processor computes. Run with SUREFOOT_TEST_GPU=1."""

from typing import Any

import jax
import numpy as np
import pytest

from support.probes import Target
from support.settings import iterate, policy_for, setting_of
from surefoot.algorithms import MAML
from surefoot.rules import GradientStep, TrustRegion


def accelerator() -> Any:
    return next((device for device in jax.devices() if device.platform != "cpu"), None)


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        accelerator() is None, reason="there is no accelerator, or SUREFOOT_TEST_GPU is not set"
    ),
]


def test_a_meta_iteration_agrees_with_the_processors():
    setting = setting_of(Target(spread=1.0))
    algorithm = MAML(GradientStep(lr=0.1), TrustRegion(), tasks=4, chunk=2)

    def on(device: Any) -> tuple[Any, Any]:
        with jax.default_device(device), jax.default_matmul_precision("highest"):
            policy = policy_for(setting, hidden=(4,), output_scale=1.0)
            state = algorithm.init(setting, policy, jax.random.key(1))
            return iterate(algorithm, setting, state, jax.random.key(5))

    (there, metrics), (here, expected) = on(accelerator()), on(jax.devices("cpu")[0])
    assert {x.device.platform for x in jax.tree.leaves(there.policy)} == {accelerator().platform}
    for got, want in zip(jax.tree.leaves(there.policy), jax.tree.leaves(here.policy), strict=True):
        np.testing.assert_allclose(got, want, atol=5e-3)
    for name in ("return_before", "return_after", "entropy", "gradient_norm"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-2)
