"""Channels are matched by name or refused: no luminance, no copy and no order that nobody asked for."""

import numpy as np
import pytest
from pydantic import ValidationError

from fedsynth.data.geometry import Grid
from fedsynth.data.manifest import SetError
from fedsynth.data.planes import COLOURS, LUMINANCE, Planes, choose, key, places, upright
from fedsynth.params import Image

RGB = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.float32)


def planes(values, names=(), **more):
    return Planes(values, Grid(values.shape[1:]), names, **more)


def chosen(found, *wanted, **how):
    image = Image(size=(4, 5), channels={name: how.get(name, "image") for name in wanted}, labels=["x"])
    return choose(found, list(wanted), image).values


@pytest.mark.parametrize("other", ["t1_ce", "T1-CE", "t1 ce", "T1CE"])
def test_case_blanks_and_dashes_of_a_name_do_not_count(other):
    assert key(other) == key("T1ce")


def test_initials_are_the_colours_and_nothing_else_is_alike():
    assert key("R") == key("Red")
    assert len({key(name) for name in ("t1", "t1w", "t1c", "t2", "t2w", "flair", "r", "g", "b")}) == 9


def test_names_that_are_not_there_and_names_that_are_there_twice_are_told():
    assert places(["flair", "t1"], ["T1", "T1ce", "T2", "Flair"], "") == [3, 0]
    with pytest.raises(SetError, match="it has no channel 't1w', it has 'T1', 'T2'; see there"):
        places(["t1w"], ["T1", "T2"], "it", "see there")
    with pytest.raises(SetError, match="it has several channels named 't1', it has 'T1', 't-1'"):
        places(["t1"], ["T1", "t-1"], "it")


def test_planes_with_names_are_taken_by_name_whatever_their_order():
    four = planes(np.stack([np.full((4, 5), i, np.float32) for i in range(4)]), ("FLAIR", "T1w", "t1-gd", "T2w"))
    assert chosen(four, "t1gd", "flair")[:, 0, 0].tolist() == [2, 0]
    for wanted in (["t1"], ["a", "b", "c", "d"]):
        with pytest.raises(SetError, match="has no channel"):
            chosen(four, *wanted)


def test_planes_without_names_are_taken_in_their_order_where_they_are_as_many():
    two = planes(RGB[:2])
    assert np.array_equal(chosen(two, "t1", "t2"), RGB[:2])
    for wanted in (["t1"], ["t1", "t2", "t3"]):
        with pytest.raises(SetError, match=f"has 2 planes without names, .* channels {', '.join(wanted)}"):
            chosen(two, *wanted)


def test_points_in_time_are_not_modalities():
    for wanted in (["t1"], ["t1", "t2", "t3"]):
        with pytest.raises(SetError, match="has 3 points in time"):
            chosen(planes(RGB, times=True), *wanted)
    named = chosen(planes(RGB, ("a", "b", "c"), times=True), "c", "a")
    assert np.array_equal(named, RGB[[2, 0]])  # a file that names them knows better


def test_one_plane_is_the_channel_that_it_is_asked_for():
    assert np.array_equal(chosen(planes(RGB[:1]), "t1"), RGB[:1])
    assert np.array_equal(chosen(planes(RGB[:1], ("gray",)), "us"), RGB[:1])


def test_colours_are_taken_by_name():
    assert np.array_equal(chosen(planes(RGB, COLOURS), "b", "Red"), RGB[[2, 0]])
    for wanted in (["us"], ["t1", "t2", "flair"], ["red", "green", "nir"]):
        with pytest.raises(SetError, match="it has 'red', 'green', 'blue'"):
            chosen(planes(RGB, COLOURS), *wanted)


def test_a_gray_picture_that_was_saved_in_colour_is_gray():
    gray = np.repeat(RGB[:1], 3, 0)
    jpeg = gray + np.random.default_rng(1).uniform(-0.5, 0.5, gray.shape).astype(np.float32)
    assert np.array_equal(chosen(planes(gray, COLOURS), "us"), RGB[:1])
    assert np.abs(chosen(planes(jpeg, COLOURS), "us") - RGB[:1]).max() <= 0.5
    assert chosen(planes(gray, COLOURS), "red", "green", "blue").shape == (3, 4, 5)
    tinted = gray.copy()
    tinted[0, 0, 0] += 9
    with pytest.raises(SetError):
        chosen(planes(tinted, COLOURS), "us")


def test_brightness_and_single_colours_where_params_say_so():
    light = {"image": "luminance", "of": ["rgb"]}
    np.testing.assert_allclose(chosen(planes(RGB, COLOURS), "us", us=light)[0], np.tensordot(LUMINANCE, RGB, 1))
    green = chosen(planes(RGB, COLOURS), "us", us={"image": "green", "of": ["rgb"]})
    assert np.array_equal(green[0], RGB[1])
    assert np.array_equal(chosen(planes(RGB[:1], ("gray",)), "us", us=light), RGB[:1])  # said of rgb alone
    both = {"image": "luminance", "of": ["rgb", "gray"]}
    assert np.array_equal(chosen(planes(RGB[:1], ("gray",)), "us", us=both), RGB[:1])
    named = chosen(planes(RGB, COLOURS), "us", "red", us=light)
    assert np.array_equal(named[1], RGB[0])


def test_copies_where_params_say_so():
    copy = {"image": "copy", "of": ["gray"]}
    found = chosen(planes(RGB[:1], ("gray",)), "r", "g", "b", r=copy, g=copy, b=copy)
    assert all(np.array_equal(plane, RGB[0]) for plane in found)
    with pytest.raises(SetError, match="'b'"):
        chosen(planes(RGB[:1], ("gray",)), "r", "g", "b", r=copy, g=copy)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": "copy", "of": ["rgb"]},
        {"image": "red", "of": ["gray"]},
        {"image": "luminance", "of": []},
        {"image": "brightness", "of": ["rgb"]},
        {"image": "luminance", "of": ["cmyk"]},
    ],
)
def test_conversions_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        chosen(planes(RGB), "us", us=wrong)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_as_pillow_does(orientation):
    from PIL import Image as Pillow
    from PIL import ImageOps

    pixels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    picture = Pillow.fromarray(pixels)
    picture.getexif()[0x0112] = orientation
    found = upright(planes(pixels[None].astype(np.float32)), orientation)
    assert np.array_equal(found.values[0], np.asarray(ImageOps.exif_transpose(picture)))
    assert found.grid.shape == found.shape
    assert found.exif == orientation
