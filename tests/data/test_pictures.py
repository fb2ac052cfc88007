"""Contact sheets show what is in the arrays: the right images, drawn by chance, with masks outlined and not covered."""

from __future__ import annotations

import numpy as np
import pytest

from fedsynth.data import pictures
from tests.sets import make_set, tiny_params


@pytest.fixture(scope="module")
def params():
    return tiny_params()


@pytest.fixture(scope="module")
def images(params, tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set"), params, n=24)


def test_images_are_drawn_by_chance_and_the_same_again_by_seed(images):
    drawn = [list(pictures.draw(images, "none", 4, seed).manifest["image_id"]) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(pictures.draw(images, "none", 4, 1).manifest["label"]) == {"none"}


def test_an_image_with_a_problem_is_never_shown(images):
    broken = images.where(images.manifest["label"] == "none")
    broken.manifest["problem"] = ["cannot be read"] * (len(broken) - 1) + [""]
    assert list(pictures.draw(broken, "none", 9, 1).manifest["image_id"]) == [broken.manifest["image_id"].iloc[-1]]


def test_a_sheet_has_a_row_for_each_image_channel_and_a_column_for_each_image(params, images):
    sheet = pictures.sheet(pictures.draw(images, "none", 3, 1), params.image)
    tile, gap = pictures.TILE, pictures.GAP
    assert sheet.shape == (2 * tile + gap, 3 * tile + 2 * gap, 4)
    assert (sheet[:tile, tile : tile + gap, 3] == 0).all(), "the gap is clear, so that it takes the page's colour"


def test_gray_values_are_those_of_the_array(params, images):
    one = images.where(np.arange(len(images)) == 0)
    one.images[:] = np.array([-1.0, 1.0, -1.0]).reshape(1, 3, 1, 1)  # t1 black, t2 white, no lesion
    sheet = pictures.sheet(one, params.image)
    assert (sheet[: pictures.TILE, :, :3] == 0).all()
    assert (sheet[-pictures.TILE :, :, :3] == 255).all()


def test_the_outline_runs_around_the_mask_and_leaves_the_lesion_in_sight():
    mask = np.zeros((9, 9), bool)
    mask[3:6, 3:6] = True
    outline = pictures._outline(mask)
    assert not (outline & mask).any()
    assert outline.sum() == 12


def test_a_class_with_a_lesion_is_outlined_and_one_without_is_not(params, images):
    def coloured(label: str) -> int:
        rgb = pictures.sheet(pictures.draw(images, label, 4, 1), params.image)[..., :3].astype(int)
        return int((np.ptp(rgb, axis=-1) > 100).sum())

    assert coloured("none") == 0
    assert coloured("infiltrating") > 100


def test_red_green_and_blue_are_one_picture():
    image = tiny_params(
        image={"channels": {"red": "image", "green": "image", "blue": "image"}, "empty_labels": []}
    ).image
    assert pictures.rows_of(image) == {"colour": ["red", "green", "blue"]}
    planes = np.stack([np.full((4, 4), v, np.float32) for v in (1, -1, -1)])
    assert tuple(pictures._tile(planes, planes[:0])[0, 0]) == (255, 0, 0, 255)


def test_a_volume_shows_its_middle_slice(tmp_path):
    params = tiny_params(image={"size": [8, 16, 16]})
    volumes = make_set(tmp_path, params, n=3)
    volumes.images[:] = -1
    volumes.images[:, :2, 4] = 1
    sheet = pictures.sheet(volumes, params.image)
    assert (sheet[: pictures.TILE, : pictures.TILE, :3] == 255).all()


def test_samples_set_real_beside_synthetic_and_stand_alone_without(params, images):
    both, alone = pictures.samples(images, images, params.image, 1), pictures.samples(None, images, params.image, 1)
    assert both.width > 1.8 * alone.width
    assert both.height == alone.height


def test_a_class_that_nobody_drew_is_said_so_and_does_not_break_the_sheet(params, images):
    only = images.where(images.manifest["label"] == "none")
    assert pictures.samples(images, only, params.image, 1).size[0] > 0
    assert pictures.sheet(only.where(np.zeros(len(only), bool)), params.image).size == 0
