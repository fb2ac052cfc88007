"""The row `public`: what the uses reach on images that cost no patient anything."""

from __future__ import annotations

import numpy as np
import pytest

from fedsynth.stages import public, reference
from fedsynth.worth.use_networks import to_arrays
from tests.sets import make_set, tiny_params

PROCEDURAL = {"class_path": "fedsynth.sources.procedural.Procedural", "args": {"images": 6}}
USES = {
    "classification": {"class_path": "fedsynth.uses.classification.Classification", "args": {"steps": 2, "batch": 6}},
    "segmentation": {"class_path": "fedsynth.uses.segmentation.Segmentation", "args": {"steps": 2, "batch": 6}},
}


def asked(**score):
    return tiny_params(score={"uses": USES, "seeds": [1]} | score)


def test_networks_are_trained_on_public_images_and_tested_at_a_site_like_any_that_is_sent(tmp_path):
    params = asked(public=PROCEDURAL)
    networks = public.fit_public(params, ["north"], tmp_path / "public")
    assert list(networks) == list(USES)
    real = make_set(tmp_path / "north", params, "north", 30)
    rows = reference.at_site(params, "north", real, {"public": networks}, tmp_path / "state")
    found = [row for row in rows if row["name"] == "public"]
    assert [row["use"] for row in found] == list(USES)
    assert {row["trained_on"] for row in found} == {"public"}
    assert to_arrays(networks, "public").keys()


def test_where_params_yaml_names_no_public_images_there_is_no_row(tmp_path):
    assert public.fit_public(asked(), ["north"], tmp_path) == {}
    assert not list(tmp_path.iterdir())


def test_a_hospitals_images_are_refused(tmp_path):
    with pytest.raises(public.PublicError, match=r"score\.public has the site 'procedural', a hospital"):
        public.ingested(asked(public=PROCEDURAL), ["procedural"], tmp_path)


def test_images_without_a_label_of_the_study_are_refused_by_name(tmp_path):
    block = {"class_path": "fedsynth.sources.phantom.Phantom",
             "args": {"sites": {"textbook": {"images": 6, "mix": [1, 1, 0]}}}}  # fmt: skip
    with pytest.raises(public.PublicError, match="no usable image of extra_axial"):
        public.ingested(asked(public=block), ["north"], tmp_path)


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)], ids=["2d", "3d"])
def test_procedural_images_have_a_mask_where_the_label_has_one(tmp_path, size):
    params = tiny_params(image={"size": list(size)}, score={"uses": USES, "public": PROCEDURAL})
    images = public.ingested(params, [], tmp_path)
    marked = (images.channels(params.image, params.image.masks) > 0).any(tuple(range(1, len(size) + 2)))
    assert np.array_equal(marked, ~images.manifest["label"].isin(params.image.empty_labels))
    assert np.unique(images.manifest["sha256"]).size == len(images) == 18
