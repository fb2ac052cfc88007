"""The datasheet says what a set was made from and by what, and claims nothing that was not computed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fedsynth.params import Params
from fedsynth.report.datasheet import _same, block, cell, datasheet
from fedsynth.worth.facts import facts
from tests.judged import judged
from tests.sets import make_set, tiny_params
from tests.trained import trained


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
def known(params, tmp_path_factory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("project")
    trained(root, params)
    judged(root)
    return facts(params, root, "vae")


@pytest.fixture(scope="module")
def synthetic(params, tmp_path_factory):
    return make_set(
        tmp_path_factory.mktemp("set"), params, site="synthetic", n=20, origin="synthetic", model="vae/c3c3c3", seed=0
    )


def test_it_names_what_the_set_was_made_from_and_by_what(params, synthetic, known):
    text = datasheet(params, model_of(params), synthetic, known)
    for fact in (
        "north",
        "east",
        "120",
        "a1" * 32,
        "b2" * 32,
        "VAE",
        "FedAvg",
        "train_vae-4f2a",
        "c3" * 32,
        "vae/c3c3c3",
        "0.1.0",
    ):
        assert fact in text, fact


def test_it_counts_the_images_of_each_class(params, synthetic, known):
    text = datasheet(params, model_of(params), synthetic, known)
    counts = synthetic.manifest["label"].value_counts()
    assert all(f"| {label} | {counts[label]} |" in text for label in params.image.labels)
    assert "| **all** | **20** |" in text


def test_a_withheld_count_stays_withheld(params, synthetic, known):
    assert "| east | &lt; 5 |" in datasheet(params, model_of(params), synthetic, known)


def test_what_was_computed_stands_with_its_interval_and_floor(params, synthetic, known):
    text = datasheet(params, model_of(params), synthetic, known)
    assert "| FID | 2 | 1.70 to 2.30 | 1 |" in text
    assert "| copies, by pixels | 0 |" in text
    shares = "83 % of pooled | 67 % of the gap to pooled | 75 % of the gap to pooled (south)"
    assert f"| classification | balanced accuracy | 0.750 | 0.800 | {shares} |" in text
    assert (
        "*pooled*: one network trained on the real images of all sites together, which a simulation alone can do."
        in text
    )


def test_a_site_that_did_not_answer_is_named(params, synthetic, known):
    text = datasheet(params, model_of(params), synthetic, known | {"left_out": {"score": {"south": "not connected"}}})
    assert (
        "**south did not answer the job of scoring (not connected): what rests on all sites is not computed.**" in text
    )


def test_one_site_has_trained_alone(params, synthetic, known):
    one = model_of(params) | {"sites": {"north": 60}}
    assert "that one site trained." in datasheet(params, one, synthetic, known)
    assert "together" in datasheet(params, model_of(params), synthetic, known)


def test_a_rehearsal_with_lowered_floors_is_told(params, synthetic, known):
    text = datasheet(params, model_of(params), synthetic, known | {"rehearsed": ["A rehearsal: floors.subjects is 3"]})
    assert "**A rehearsal: floors.subjects is 3.**" in text


def test_what_was_not_computed_says_so(params, synthetic, known):
    bare = known | {"measures": {}, "uses": {}, "scores": {}, "by_class": {}, "worst": {}}
    text = datasheet(params, model_of(params), synthetic, bare)
    for measure in (
        "copies, by pixels",
        "copies, by features",
        "membership by distance, AUC",
        "membership by loss, AUC",
        "FID",
        "recall",
    ):
        assert f"| {measure} | not computed |" in text
    assert "| epsilon of differential privacy | none |" in text
    assert "worst site and class not computed" in text


def test_it_grants_no_licence_and_no_use_on_patients(params, synthetic, known):
    text = datasheet(params, model_of(params), synthetic, known)
    assert "The consortium decides; none is granted" in text
    assert "Not for the diagnosis or treatment" in text


def test_the_layout_is_that_of_the_exporters_if_there_are_any(params, synthetic, known):
    assert "masks/ " in datasheet(params, model_of(params), synthetic, known)
    assert "images.npy" in datasheet(tiny_params(), model_of(params), synthetic, known)


def test_each_layout_stands_once_under_the_names_of_its_exporters():
    one, other = {"images/": "one file each"}, {"images.npz": "all"}
    assert _same({"A": one, "B": other, "C": dict(one)}) == [(["A", "C"], one), (["B"], other)]


def test_the_files_of_each_exporter_are_named_and_what_of_them_is_nominal(synthetic, known):
    paths = ["png.PNG", "nifti.NIfTI", "npz.NPZ", "webdataset.WebDataset", "dicom.DICOM"]
    asked = tiny_params(sample={"exporters": {path: {"class_path": f"fedsynth.exporters.{path}"} for path in paths}})
    text = datasheet(asked, model_of(asked), synthetic, known)
    layout = text[text.index("## File layout") : text.index("## Uses")]
    assert layout.count("    shard-*.tar ") == 1
    assert "    metadata.csv       a row for each image" in layout
    assert "    <image_id>/masks.dcm a segmentation: lesion" in layout
    assert (
        "    images-*.npz       train_images (0 to 255), train_labels (0 none, 1 infiltrating, 2 extra_axial),"
        " train_masks" in layout
    )
    assert layout.count("nominal") == 3
    assert "    shard-*.tar        for each image <image_id>.<channel>.png and <image_id>.json" in layout


def test_the_same_set_gives_the_same_text_so_that_archives_do_not_change(params, synthetic, known):
    assert datasheet(params, model_of(params), synthetic, known) == datasheet(
        params, model_of(params), synthetic, known
    )


def test_odd_names_stay_in_their_cells(params, synthetic, known):
    text = datasheet(params, model_of(params, sites={"a|b\n<i>": 9}, digests={}), synthetic, known)
    assert "| a\\|b &lt;i> | 9 | `not recorded` |" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_a_volume_is_called_a_volume(tmp_path, known):
    params = tiny_params(image={"size": [8, 8, 8]})
    text = datasheet(params, model_of(params), make_set(tmp_path, params, n=6), known)
    assert "One synthetic volume of 8 × 8 × 8 voxels" in text


def test_a_call_reads_as_text():
    assert block({"class_path": "fedsynth.algorithms.fedprox.FedProx", "args": {"mu": 0.01}}) == "FedProx (mu = 0.01)"
    assert cell("a | b") == "a \\| b"
