"""The datasheet says what a set was made from and by what, and claims nothing that was not computed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fedsynth.datasheet import block, cell, datasheet
from fedsynth.params import Params
from tests.sets import make_set, tiny_params


def model_of(params: Params, **changes: Any) -> dict[str, Any]:
    facts = {
        "name": "vae",
        **params.models["vae"].model_dump(mode="json"),
        "seed": 1,
        "job_id": "train_vae-4f2a",
        "sites": {"north": 120, "east": "< 5"},
        "digests": {"north": "a1" * 32, "east": "b2" * 32},
        "fedsynth": "0.1.0",
        "weights_sha256": "c3" * 32,
    }
    return facts | changes


@pytest.fixture(scope="module")
def params() -> Params:
    return tiny_params(sample={"exporters": {"png": {"class_path": "fedsynth.exporters.png.PNG"}}})


@pytest.fixture(scope="module")
def synthetic(params, tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set"), params, site="synthetic", n=20, origin="synthetic", model="vae/c3c3c3", seed=0)


def test_it_names_what_the_set_was_made_from_and_by_what(params, synthetic):
    text = datasheet(params, model_of(params), synthetic)
    for fact in ("north", "east", "120", "a1" * 32, "b2" * 32, "VAE", "FedAvg", "train_vae-4f2a", "c3" * 32, "vae/c3c3c3", "0.1.0"):
        assert fact in text, fact


def test_it_counts_the_images_of_each_class(params, synthetic):
    text = datasheet(params, model_of(params), synthetic)
    counts = synthetic.manifest["label"].value_counts()
    assert all(f"| {label} | {counts[label]} |" in text for label in params.image.labels)
    assert "| **all** | **20** |" in text


def test_a_withheld_count_stays_withheld(params, synthetic):
    assert "| east | &lt; 5 |" in datasheet(params, model_of(params), synthetic)


def test_it_says_what_has_not_been_computed_and_grants_no_licence(params, synthetic):
    text = datasheet(params, model_of(params), synthetic)
    for measure in ("copies of training images", "membership inference", "epsilon of differential privacy"):
        assert f"| {measure} | not computed |" in text
    assert "The consortium decides; none is granted" in text
    assert "Not for the diagnosis or treatment" in text


def test_the_layout_is_that_of_the_exporters_if_there_are_any(params, synthetic):
    assert "masks/ " in datasheet(params, model_of(params), synthetic)
    assert "images.npy" in datasheet(tiny_params(), model_of(params), synthetic)


def test_the_same_set_gives_the_same_text_so_that_archives_do_not_change(params, synthetic):
    assert datasheet(params, model_of(params), synthetic) == datasheet(params, model_of(params), synthetic)


def test_odd_names_stay_in_their_cells(params, synthetic):
    text = datasheet(params, model_of(params, sites={"a|b\n<i>": 9}, digests={}), synthetic)
    assert "| a\\|b &lt;i> | 9 | `not recorded` |" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_a_volume_is_called_a_volume(tmp_path):
    params = tiny_params(image={"size": [8, 8, 8]})
    text = datasheet(params, model_of(params), make_set(tmp_path, params, n=6))
    assert "One synthetic volume of 8 × 8 × 8 voxels" in text


def test_a_call_reads_as_text():
    assert block({"class_path": "fedsynth.algorithms.fedprox.FedProx", "args": {"mu": 0.01}}) == "FedProx (mu = 0.01)"
    assert cell("a | b") == "a \\| b"
