"""16-bit numbers."""

import numpy as np
import pytest
import torch

from fedsynth.compression.cast import Cast


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_it_rounds_as_torch_does(dtype):
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    there = Cast(dtype).decode(Cast(dtype).encode(x, [1000]), [1000])
    np.testing.assert_array_equal(there, torch.from_numpy(x).to(getattr(torch, dtype)).float().numpy())


def test_half_precision_ends_at_its_largest_number_and_bfloat16_does_not():
    x = np.array([1e6, -1e6], np.float32)
    assert (np.abs(Cast("float16").decode(Cast("float16").encode(x, [2]), [2])) == 65504).all()
    np.testing.assert_allclose(Cast("bfloat16").decode(Cast("bfloat16").encode(x, [2]), [2]), x, rtol=0.01)


def test_another_type_is_an_error():
    with pytest.raises(ValueError, match="float16, bfloat16"):
        Cast("float8")
