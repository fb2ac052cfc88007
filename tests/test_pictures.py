"""Pictures show what is in the arrays: the right images, masks outlined and not covered, losses at their place."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image as Pillow

from fedsynth import pictures
from tests.sets import make_set, tiny_params


def history(rounds: int = 4, players: tuple[str, ...] = ("generator", "discriminator"), sites: tuple[str, ...] = ("north", "east")) -> dict:
    def metrics(r: int, i: int) -> dict:
        return {f"loss/{player}": 1.0 / (r + 1) + 0.1 * i for player in players} | {"steps": 9, "weight": 100}

    return {
        "job_id": "j",
        "seconds": 12.0,
        "rounds": [{"round": r, "sites": {s: metrics(r, i) for i, s in enumerate(sites)}} for r in range(rounds)],
    }


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
    image = tiny_params(image={"channels": {"red": "image", "green": "image", "blue": "image"}, "empty_labels": []}).image
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


def test_curves_count_rounds_from_one_and_keep_each_sites_losses():
    assert pictures.curves(history(2))["generator"] == {"north": [(1, 1.0), (2, 0.5)], "east": [(1, 1.1), (2, 0.6)]}


def test_there_is_a_chart_for_each_player_with_every_site_named():
    charts = pictures.losses(history(), ["west", "north", "east"])
    assert list(charts) == ["generator", "discriminator"]
    for svg in charts.values():
        texts = [e.text for e in ET.fromstring(svg.replace("xlink:href", "href")).iter("text")]
        assert {"north", "east", "round", "loss"} <= set(texts)
        assert "west" not in texts, "it trained nothing"


def test_a_sites_colour_is_its_place_in_the_consortium_whoever_trained():
    svg = pictures.losses(history(), ["west", "north", "east"])["generator"]
    assert "var(--site-0)" not in svg
    assert {"var(--site-1)", "var(--site-2)"} <= {part[:13] for part in svg.replace("var(", "\nvar(").split("\n")}


def test_a_chart_fetches_nothing_and_takes_ink_and_font_of_the_page():
    for svg in pictures.losses(history(), ["north", "east"]).values():
        assert "http" not in svg
        assert "font-family" not in svg
        assert "#000000" not in svg


def test_odd_site_names_are_escaped():
    svg = pictures.losses(history(sites=("<b>$x$", "a&b")), ["<b>$x$", "a&b"])["generator"]
    assert "&lt;b&gt;$x$" in svg
    assert "a&amp;b" in svg


def test_the_same_history_gives_the_same_bytes():
    assert pictures.losses(history(), ["north", "east"]) == pictures.losses(history(), ["north", "east"])
    assert pictures.losses_png(history(), ["north", "east"]) == pictures.losses_png(history(), ["north", "east"])


@pytest.mark.parametrize("odd", [float("nan"), None, -3.0, 1e6])
def test_a_loss_that_is_no_number_or_far_away_breaks_no_chart(odd):
    told = history(1)
    told["rounds"][0]["sites"]["north"]["loss/generator"] = odd
    assert "<svg" in pictures.losses(told, ["north", "east"])["generator"]


def test_a_history_without_rounds_gives_no_chart_and_a_readable_png():
    assert pictures.losses({"rounds": []}, ["north"]) == {}
    assert Pillow.open(io.BytesIO(pictures.losses_png({"rounds": []}, ["north"]))).size[0] > 0


def test_labels_that_meet_are_moved_apart_as_little_as_needed():
    assert pictures.spread([0.1, 0.5], 0.1) == [0.1, 0.5]
    moved = pictures.spread([0.5, 0.5, 0.5], 0.1)
    assert np.allclose(moved, [0.4, 0.5, 0.6])
    many = pictures.spread(sorted(np.random.default_rng(0).uniform(size=9)), 0.09)
    assert np.diff(many).min() > 0.09 - 1e-9
