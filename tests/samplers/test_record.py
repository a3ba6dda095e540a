import jax
import numpy as np
import pytest

from surefoot.samplers.record import aligned_zeros


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator has memory of its own")
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_])
@pytest.mark.parametrize("shape", [(3, 5), (800, 7, 3)])
def test_on_a_cpu_what_was_recorded_is_not_copied(shape: tuple[int, ...], dtype: type):
    recorded = aligned_zeros(shape, dtype)
    recorded[1] = 1
    put = jax.device_put(recorded)
    assert put.unsafe_buffer_pointer() == recorded.ctypes.data
    assert put.dtype == dtype
    np.testing.assert_array_equal(np.asarray(put).sum(), recorded[1].size)
