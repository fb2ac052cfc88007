"""What the sampler mends is counted: rates of masks taken away and of draws that were thrown away."""

from __future__ import annotations

from collections import Counter

import pytest

from fedsynth.data import mends
from fedsynth.params.gates import parse
from fedsynth.worth import gates
from tests.sets import make_set, tiny_params


def test_rates_are_of_the_images_that_could_be_mended_so(tmp_path):
    params = tiny_params()
    manifest = make_set(tmp_path, params, "synthetic", 30).manifest
    without = int(manifest["label"].isin(params.image.empty_labels).sum())
    counts = mends.counted(params.image, manifest, Counter({"masks emptied": 3, "drawn again": 20}))
    assert (counts["without"], counts["with"]) == (without, 30 - without)
    assert mends.rates(counts) == {
        "masks_emptied": pytest.approx(3 / without, abs=1e-4),
        "drawn_again": pytest.approx(20 / (30 - without + 20), abs=1e-4),
    }


def test_without_a_count_or_an_image_there_is_no_rate_and_a_gate_does_not_hold():
    nothing = {"masks_emptied": None, "drawn_again": None}
    assert mends.rates(None) == nothing
    assert mends.rates({"without": 0, "with": 0, "masks_emptied": 0, "drawn_again": 0}) == nothing
    assert parse("masks_emptied <= 0.1").name == "masks_emptied"
    assert not gates.evaluate({"require": ["masks_emptied <= 0.1"]}, gates.Known(nothing))["passed"]


def test_a_study_without_such_masks_says_what_it_lacks():
    assert mends.lacks(tiny_params().image) == ""
    assert "image.channels" in mends.lacks(tiny_params(image={"channels": {"t1": "image"}, "empty_labels": []}).image)
    assert "image.empty_labels" in mends.lacks(tiny_params(image={"empty_labels": []}).image)
