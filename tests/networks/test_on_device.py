"""Everything that has tensors runs on the device that is named, and no training step waits for it.

On a machine without a GPU this is seen on a device that is only said to be one (tests/pretended.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apart import last_line
from tests.on_device import WAITS_AT_EACH_STEP, WORK

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found() -> dict[str, dict]:
    return json.loads(last_line("-m", "tests.on_device"))


@pytest.mark.parametrize("work", WORK)
def test_it_is_all_computed_on_the_device_and_comes_to_the_same(found, work):
    """Two kinds of devices add in another order; a step of Adam makes of that up to a learning rate (2e-3)."""
    assert found[work]["there"]
    assert found[work]["left"] == []
    assert found[work]["off"] < 2e-3


@pytest.mark.parametrize("work", sorted(WORK.keys() - WAITS_AT_EACH_STEP))
def test_no_step_waits_for_the_device(found, work):
    assert found[work]["waits"] == 0


def test_a_wait_and_a_tensor_that_was_left_behind_would_be_seen():
    code = """
import pytest, torch
from tests import pretended
there = pretended.device()
with pytest.MonkeyPatch.context() as patch, pretended.pretended(patch) as device:
    x = torch.ones(2).to(there, non_blocking=True)
    assert device.waits == []
    float(x.sum()); x.cpu(); torch.ones(2).to(there)
    assert len(device.waits) == 3, device.waits
    try:
        x + torch.ones(2)
    except RuntimeError as error:
        assert "two devices" in str(error)
    else:
        raise AssertionError("tensors of two devices were added")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
