"""`fedsynth.load`: images as arrays, the same for the same seed, of what was asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fedsynth
from fedsynth.errors import UserError
from fedsynth.exporters.png import PNG
from fedsynth.generation import order
from tests.sets import make_set, tiny_params
from tests.trained import trained

PARAMS = tiny_params()
MASK_TO_IMAGE = {"channels": {"t1": "image", "lesion": "mask"}, "given": ["lesion"]}


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    root = tmp_path_factory.mktemp("model")
    trained(root, PARAMS)
    return fedsynth.load(root / "models" / "vae")


@pytest.fixture
def converter(tmp_path):
    """A model that makes t1 from a given mask, and what it is given: a set of another site, two images of a class."""
    params = tiny_params(image=MASK_TO_IMAGE)
    trained(tmp_path, params)
    given = make_set(tmp_path / "given", params, "public", n=6)
    return fedsynth.load(tmp_path / "models" / "vae"), given


def drawn(generator, *args, **kwargs):
    batches = list(generator.generate(*args, **kwargs))
    return np.concatenate([batch.images for batch in batches]), [name for batch in batches for name in batch.labels]


def test_it_says_what_it_draws(generator):
    assert generator.labels == ["none", "infiltrating", "extra_axial"]
    assert tuple(generator.size) == (16, 16)
    assert generator.channels == {"t1": "image", "t2": "image", "lesion": "mask"}
    assert generator.given == []
    assert "vae" in repr(generator)
    assert generator.card.startswith("# Model card: vae")


def test_images_are_in_their_range_with_masks_that_match_their_labels(generator):
    images, labels = drawn(generator, 30)
    assert images.shape == (30, 3, 16, 16)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1
    assert {name: labels.count(name) for name in set(labels)} == dict.fromkeys(generator.labels, 10)
    for image, label in zip(images, labels, strict=True):
        assert set(np.unique(image[2])) <= {-1.0, 1.0}
        assert (image[2] > 0).any() == (label != "none")


def test_the_same_seed_gives_the_same_images_in_batches_of_any_size(generator):
    first, labels = drawn(generator, 150, seed=7)
    for batch in (1, 64, 100, 1000):
        again, same = drawn(generator, 150, seed=7, batch=batch)
        np.testing.assert_array_equal(first, again)
        assert labels == same
    assert [len(b.images) for b in generator.generate(150, batch=100)] == [100, 50]
    assert not np.array_equal(first, drawn(generator, 150, seed=8)[0])
    assert len({image.tobytes() for image in first}) == 150, "no part of a set repeats another"


def test_a_longer_set_begins_with_the_whole_parts_of_a_shorter_one(generator):
    part = order.part_size(PARAMS.image)
    np.testing.assert_array_equal(drawn(generator, 2 * part)[0], drawn(generator, 2 * part + 20)[0][: 2 * part])


def test_only_the_labels_that_are_asked_for_are_drawn_in_equal_shares(generator):
    assert set(drawn(generator, 5, "infiltrating")[1]) == {"infiltrating"}
    labels = drawn(generator, 9, ["infiltrating", "none"])[1]
    assert sorted(labels.count(name) for name in ("infiltrating", "none")) == [4, 5]


def test_without_a_label_the_shares_are_those_of_the_study(tmp_path):
    trained(tmp_path, PARAMS)
    study = PARAMS.model_dump(mode="json")
    study["sample"]["balance"] = {"none": 1, "extra_axial": 3}
    (tmp_path / "params.yaml").write_text(json.dumps(study))
    assert drawn(fedsynth.load(tmp_path / "models/vae"), 8)[1].count("extra_axial") == 6
    study["image"]["size"] = [8, 8]  # the params.yaml of another study
    (tmp_path / "params.yaml").write_text(json.dumps(study))
    assert drawn(fedsynth.load(tmp_path / "models/vae"), 9)[1].count("infiltrating") == 3


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"label": "infiltratin"}, "knows no label 'infiltratin'; it knows none, infiltrating, extra_axial; did you"),
        ({"images": 0}, "0 images with seed 0: at least 1"),
        ({"seed": -1}, "seed -1"),
        ({"given": "somewhere"}, "makes images from nothing but a label; leave --given somewhere out"),
    ],
)
def test_what_cannot_be_drawn_is_said_at_once_and_not_at_the_first_image(generator, asked, said):
    with pytest.raises(UserError, match=said):
        generator.generate(**({"images": 3} | asked))


def test_volumes_are_drawn_in_smaller_parts(tmp_path):
    params = tiny_params(image={"size": [8, 8, 8]})
    trained(tmp_path, params)
    images, _ = drawn(fedsynth.load(tmp_path / "models/vae"), 4)
    assert images.shape == (4, 3, 8, 8, 8)
    sizes = {(32, 32): 64, (256, 256): 16, (64, 64, 64): 4, (512, 512, 512): 1}
    for size, most in sizes.items():
        assert order.part_size(params.image.model_copy(update={"size": size})) == most


def test_given_channels_are_those_of_the_folder_by_label_each_in_turn(converter, tmp_path):
    generator, given = converter
    images, labels = drawn(generator, 70, given=tmp_path / "given")
    known = {(image[1].tobytes(), label) for image, label in zip(given.images, given.manifest["label"], strict=True)}
    assert {(image[1].tobytes(), label) for image, label in zip(images, labels, strict=True)} == known
    assert labels.count("none") in (23, 24)
    again, _ = drawn(generator, 70, given=tmp_path / "given")
    np.testing.assert_array_equal(images, again)
    assert len({image[0].tobytes() for image in images}) > len(given)


def test_a_folder_of_files_with_a_table_may_be_given(converter, tmp_path, capsys):
    generator, given = converter
    PNG().write(given, tiny_params(image=MASK_TO_IMAGE).image, tmp_path / "png")
    images, _ = drawn(generator, 6, given=tmp_path / "png")
    assert {image[1].tobytes() for image in images} == {image[1].tobytes() for image in given.images}
    assert capsys.readouterr().out == "", "the output is the caller's"


def test_given_images_are_asked_for_and_are_never_a_hospitals(converter, tmp_path):
    generator, _ = converter
    with pytest.raises(UserError, match=r"makes t1 from lesion: name with --given FOLDER images that have lesion"):
        generator.generate(3)
    with pytest.raises(UserError, match="nowhere is no folder"):
        generator.generate(3, given="nowhere")
    make_set(tmp_path / "real", tiny_params(image=MASK_TO_IMAGE), "north", n=6)
    with pytest.raises(UserError, match="a hospital of this run: they stay there"):
        generator.generate(3, given=tmp_path / "real")


def test_a_model_without_chance_makes_no_image_twice(tmp_path):
    model = {
        "family": {"class_path": "fedsynth.families.regression.Regression", "args": {"channels": [8, 16]}},
        "training": {"rounds": 1},
    }
    params = tiny_params(image={"channels": {"t1": "image", "t2": "image"}, "given": ["t1"]}, models={"unet": model})
    trained(tmp_path, params, "unet")
    make_set(tmp_path / "given", params, "public", n=6)
    images, labels = drawn(fedsynth.load(tmp_path / "models/unet"), 50, given=tmp_path / "given")
    assert len(images) == len({image.tobytes() for image in images}) == 6
    assert sorted(labels) == sorted(2 * params.image.labels)


def test_the_package_is_light_and_its_verbs_come_at_first_use():
    assert {"load", "generate"} <= set(dir(fedsynth))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = fedsynth.lode
