"""What a hospital's own filters (FLARE's `local/privacy.json`) make of an update, and what the server makes of that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.filters.exclude_vars import ExcludeVars
from nvflare.app_common.filters.percentile_privacy import PercentilePrivacy
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from nvflare_jobs.server.updates import check

DIFFERENCE = {
    "unet.a": np.linspace(-0.01, 0.01, 12, dtype=np.float32).reshape(3, 4),
    "unet.b": np.full(5, 0.002, np.float32),
}
SHAPES = {name: a.shape for name, a in DIFFERENCE.items()}


def filtered(by, params=DIFFERENCE, kind="DIFF"):
    sent = FLModelUtils.to_shareable(
        FLModel(params={n: a.copy() for n, a in params.items()}, params_type=kind, meta={"weight": 4.0})
    )
    return FLModelUtils.from_shareable(by.process(sent, FLContext())).params


def test_the_filter_of_the_examples_clips_a_difference_and_leaves_names_and_shapes():
    text = (Path(__file__).parents[2] / "docs" / "site" / "README.md").read_text()
    assert '"args": {"percentile": 10, "gamma": 0.001, "data_kinds": ["WEIGHT_DIFF"]}' in text
    args = json.loads('{"percentile": 10, "gamma": 0.001, "data_kinds": ["WEIGHT_DIFF"]}')
    found = filtered(PercentilePrivacy(**args))
    assert max(np.abs(a).max() for a in found.values()) <= 0.001 + 1e-9
    assert any((found[name] != DIFFERENCE[name]).any() for name in found)
    good, bad = check([("north", 4.0, {n: a.astype(np.float32) for n, a in found.items()})], SHAPES)
    assert (len(good), bad) == (1, {})
    whole = filtered(PercentilePrivacy(**args), kind="FULL")
    assert all((whole[name] == DIFFERENCE[name]).all() for name in whole)  # and whole weights it does not touch


def test_a_filter_that_takes_parameters_out_makes_the_server_leave_the_site_out():
    found = filtered(ExcludeVars(["unet.b"]))
    assert set(found) == {"unet.a"} or not len(found["unet.b"])
    good, bad = check([("north", 4.0, found)], SHAPES)
    assert good == []
    assert "other parameters or shapes" in bad["north"]
