"""Fitting: one grid, what is missing, sizes, spacing, ranges, background, and NaN."""

import numpy as np
import pytest
from scipy import ndimage

from fedsynth.data import images
from fedsynth.data.geometry import Grid
from fedsynth.data.manifest import SetError
from fedsynth.data.record import Record, Volume
from fedsynth.params import GridRule, Image

FULL = {"percentiles": [0, 100], "of": "image"}


def spec(size=(8, 8), masks=True, **changes):
    channels = {"a": "image"} | ({"m": "mask"} if masks else {})
    return Image(**{"size": size, "channels": channels, "labels": ["x"], "scale": FULL} | changes)


def record(array, mask=None, **fields):
    return Record(
        {"a": array, "m": np.zeros_like(array) if mask is None else mask}, "x", "s", file="scan.png", **fields
    )


# Sizes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (4, 6, 5)])
def test_an_image_of_the_right_size_is_only_scaled(size):
    array = np.random.default_rng(0).random(size) * 500 + 20
    fitted = images.fit(record(array), spec(size))
    np.testing.assert_allclose(fitted.array[0], (array - array.min()) / np.ptp(array) * 2 - 1, atol=1e-6)
    assert (fitted.array[1] == -1).all()
    assert fitted.spacing_mm is None
    assert fitted.array.dtype == np.float32
    assert fitted.limits == {"a": (array.min(), array.max())}


@pytest.mark.parametrize("size", [(32, 32), (9, 15), (100, 40)])
def test_padding_keeps_proportions_and_the_middle(size):
    array = np.zeros((40, 60))
    array[10:30, 20:40] = 1  # a square in the middle
    fitted = images.fit(record(array, array), spec(size)).array
    rows, columns = ((fitted[1] > 0).any(axis=a).nonzero()[0] for a in (1, 0))
    assert abs(len(rows) - len(columns)) <= 1
    assert abs(rows.mean() - (size[0] - 1) / 2) <= 0.5
    assert abs(columns.mean() - (size[1] - 1) / 2) <= 0.5


def test_stretching_fills_the_size():
    array = np.full((10, 20), 5.0)
    array[:, ::2] = 7
    padded = images.fit(record(array), spec((20, 20))).array
    assert (padded[0, [0, 4, 15, 19]] == -1).all()
    assert (padded[0, 5:15].max(axis=1) == 1).all()
    stretched = images.fit(record(array), spec((20, 20), fit="stretch")).array
    assert (stretched[0].max(axis=1) == 1).all()


def test_thick_slices_are_not_flattened_and_the_spacing_is_that_of_what_is_stored():
    ball = np.stack(np.meshgrid(np.linspace(-1, 1, 10), np.linspace(-1, 1, 30), np.linspace(-1, 1, 30), indexing="ij"))
    array = (np.square(ball).sum(0) < 0.5).astype(float)
    fitted = images.fit(record(array, array, spacing_mm=(3.0, 1.0, 1.0)), spec((15, 15, 15)))
    assert fitted.spacing_mm == (2.0, 2.0, 2.0)
    extents = [np.ptp(axis) + 1 for axis in (fitted.array[1] > 0).nonzero()]
    assert max(extents) - min(extents) <= 1
    wide = images.fit(record(array, array, spacing_mm=(3.0, 1.0, 1.0)), spec((15, 10, 15), fit="stretch"))
    assert wide.spacing_mm == (2.0, 3.0, 2.0)


def test_reducing_averages_and_does_not_alias():
    noise = np.random.default_rng(0).normal(size=(96, 96))
    reduced, _ = images.resample(noise, (16, 16), None, "pad", order=1)
    # a mean of 6 x 6 independent values has 1/6; picking or mixing four of them has more than 0.5
    assert reduced.std() < 0.25


@pytest.mark.parametrize("shape", [(40, 33, 21), (30, 6, 64), (75, 50), (5, 9)])
@pytest.mark.parametrize("how", ["pad", "stretch"])
def test_reducing_axis_by_axis_is_filtering_the_whole_image_and_then_interpolating(shape, how):
    size, old = (16,) * len(shape), np.random.default_rng(4).normal(0, 100, shape)
    step = np.array(shape) / 16
    step = np.full(len(shape), step.max()) if how == "pad" else step
    start = (0.5 - 8) * step + np.array(shape) / 2 - 0.5
    smooth = ndimage.gaussian_filter(old, np.maximum(0, (step - 1) / 2), mode="nearest")
    whole = ndimage.affine_transform(smooth, step, start, size, order=1, mode="nearest")
    found, _ = images.resample(old, size, None, how, order=1)
    there = np.isfinite(found)
    assert there.any()
    np.testing.assert_allclose(found[there], whole[there], atol=1e-4)


def test_images_and_masks_stay_where_they_were_and_in_register():
    rng, places, off = np.random.default_rng(0), np.indices((50, 70)).astype(float), []
    for _ in range(40):
        centre = rng.uniform((18, 18), (32, 52))
        disc = (np.linalg.norm(places - centre.reshape(2, 1, 1), axis=0) < 15).astype(float)
        fitted = images.fit(record(disc, disc), spec((24, 24))).array
        found = [[np.average(axis, weights=plane + 1) for axis in np.indices((24, 24))] for plane in fitted]
        off.append(found - ((centre - (24.5, 34.5)) * 24 / 70 + 11.5))
    assert np.abs(off).max() < 0.4  # pixels: a single mask's nearest neighbours may err
    np.testing.assert_allclose(np.mean(off, axis=0), 0, atol=0.05)  # but not to one side


# Intensities ---------------------------------------------------------------------------------------------------------


def scaled(array, scale=None, site=None, **fields):
    image = spec(array.shape, masks=False, scale=scale or {})
    return images.fit(Record({"a": array}, "x", "s", file="scan.png", **fields), image, site)


RAMP = np.linspace(0, 1000, 64).reshape(8, 8)


def test_a_window_is_in_the_file_s_own_values_and_clips():
    metal = np.full((8, 8), -1000.0)
    metal[2:6, 2:6] = [40, 60, 80, 30000]  # tissue beside metal
    fitted = scaled(metal, {"window": [-160, 240]})
    np.testing.assert_allclose(fitted.array[0, 2, 2:6], [0, 0.1, 0.2, 1], atol=1e-6)
    assert (fitted.array[0, 0] == -1).all()
    assert fitted.limits == {"a": (-160, 240)}


def test_a_brighter_image_stays_brighter_within_a_window_a_known_range_and_a_site():
    for how, fields, site in (
        ({"window": [0, 2000]}, {}, None),
        ({}, {"ranges": {"a": (0.0, 2000.0)}}, None),  # 8 bit, say
        ({"of": "site"}, {}, {"a": (0.0, 2000.0)}),
    ):
        dark, bright = (scaled(RAMP * k, how, site, **fields).array.mean() for k in (1, 2))
        assert dark == pytest.approx(-0.5)
        assert bright == pytest.approx(0)


def test_percentiles_of_the_image_are_the_default_without_a_known_range():
    array = RAMP.copy()
    array[0, 0] = 1e6
    fitted = scaled(array)
    assert fitted.limits["a"] == pytest.approx(np.percentile(array, (0.5, 99.5)))
    narrow = scaled(array, {"percentiles": [2, 98]}).array[0]
    assert np.median(narrow) == pytest.approx(0, abs=0.1)
    assert (narrow.min(), narrow.max()) == (-1, 1)


def test_percentiles_that_are_asked_for_count_before_a_known_range():
    fitted = scaled(RAMP, {"percentiles": [0, 100]}, ranges={"a": (0.0, 5000.0)})
    assert fitted.limits["a"] == (0, 1000)


def test_slices_share_the_limits_of_their_volume_unless_each_image_has_its_own():
    volume = Volume(lambda: {"a": np.array([0.0, 2000.0])})
    assert scaled(RAMP, {"percentiles": [0, 100]}, volume=volume).limits["a"] == (0, 2000)
    assert scaled(RAMP, {"percentiles": [0, 100], "of": "image"}, volume=volume).limits["a"] == (0, 1000)


def test_joint_limits_keep_colours():
    channels = dict.fromkeys(("red", "green", "blue"), "image")
    pink = {name: RAMP * k for name, k in zip(channels, (1.0, 0.5, 0.75), strict=True)}
    image = Image(size=(8, 8), channels=channels, labels=["x"], scale={"percentiles": [0, 100], "joint": True})
    fitted = images.fit(Record(pink, "x", "s", file="a.npy"), image)
    assert set(fitted.limits.values()) == {(0, 1000)}
    np.testing.assert_allclose(fitted.array[1] + 1, (fitted.array[0] + 1) / 2, atol=1e-6)
    alone = images.fit(Record(pink, "x", "s", file="a.npy"), image.model_copy(update={"scale": {}})).array
    np.testing.assert_allclose(alone[0], alone[1], atol=1e-6)  # what a joint scale is against


def test_each_channel_may_have_a_scale_of_its_own():
    image = Image(
        size=(8, 8), channels={"ct": "image", "pet": "image"}, labels=["x"],
        scale={"ct": {"window": [0, 500]}, "*": {"percentiles": [0, 100]}},
    )  # fmt: skip
    fitted = images.fit(Record({"ct": RAMP, "pet": RAMP}, "x", "s", file="a.npy"), image)
    assert fitted.limits == {"ct": (0, 500), "pet": (0, 1000)}


def test_an_image_without_any_contrast_is_background():
    assert (scaled(np.full((8, 8), 3.0)).array == -1).all()


# Background and NaN --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ground", [0.0, 200.0, 255.0])
def test_padding_has_the_value_of_the_background(ground):
    array = np.full((16, 32), ground)
    array[4:12, 8:24] = 100
    fitted = images.fit(record(array, ranges={"a": (0.0, 255.0)}), spec((32, 32), scale={})).array[0]
    np.testing.assert_allclose(fitted[[0, 31]], ground / 255 * 2 - 1, atol=1e-6)
    assert (images.fit(record(array, array * 0), spec((32, 32))).array[1] == -1).all()  # of a mask: nothing


def test_padding_is_black_where_the_border_has_no_one_value():
    noise = np.random.default_rng(0).uniform(0, 255, (16, 32))
    fitted = images.fit(record(noise, ranges={"a": (0.0, 255.0)}), spec((32, 32), scale={})).array[0]
    assert (fitted[[0, 31]] == -1).all()


@pytest.mark.parametrize("size", [(32, 32), (16, 16)])
def test_nan_outside_of_the_body_is_background_and_its_share_is_told(size):
    array = np.random.default_rng(0).uniform(0.4, 1, (32, 32))
    array[:, 24:], array[0, 0] = 0, 0
    spoilt = array.copy()
    spoilt[:, 24:] = np.nan  # outside of the scanner's circle, say
    good, found = (images.fit(record(a), spec(size)) for a in (array, spoilt))
    assert found.outside == 0.25
    assert good.outside == 0
    assert np.isfinite(found.array).all()
    assert (found.array[0][:, -size[1] // 4 :] == -1).all()
    inner = slice(0, 3 * size[1] // 4 - 1)
    np.testing.assert_allclose(found.array[0][:, inner], good.array[0][:, inner], atol=0.1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_in_the_body_that_are_no_numbers_are_a_problem(value):
    array = np.ones((8, 8))
    array[4, 4:6] = value
    with pytest.raises(SetError, match=r"scan\.png: 'a' has 2 values in the body that are no numbers"):
        images.fit(record(array), spec())
    array[0, 0] = np.inf  # at the border, too: outside of the body is NaN alone
    with pytest.raises(SetError, match="has 3 values in the body"):
        images.fit(record(array), spec())


def test_an_image_of_nan_alone_is_a_problem():
    with pytest.raises(SetError, match=r"scan\.png: 'a' holds no number at all"):
        images.fit(record(np.full((8, 8), np.nan)), spec())


# What is missing -----------------------------------------------------------------------------------------------------


def test_a_missing_image_and_other_axes_are_named():
    with pytest.raises(SetError, match=r"scan\.png has no channel 'a' \(it has: m\)"):
        images.fit(Record({"m": np.zeros((8, 8))}, "x", "s", file="scan.png"), spec())
    with pytest.raises(SetError, match=r"scan\.png: 'a' has the shape \(8, 8\)"):
        images.fit(record(np.zeros((8, 8))), spec((8, 8, 8)))


def test_an_image_that_may_lack_is_dark_throughout_and_one_must_be_there():
    image = Image(size=(8, 8), channels={"a": "image", "b": "image"}, labels=["x"], may_lack=["b"])
    fitted = images.fit(Record({"a": RAMP}, "x", "s", file="scan.png"), image)
    assert (fitted.array[1] == -1).all()
    assert set(fitted.limits) == {"a"}
    with pytest.raises(SetError, match=r"none of the image channels|no channel 'a'"):
        images.fit(Record({"b": RAMP}, "x", "s", file="scan.png"), image)


@pytest.mark.parametrize(
    ("changes", "value"),
    [({}, images.UNKNOWN), ({"unmarked": "healthy"}, -1), ({"empty_labels": ["x"]}, -1), ({"labels": ["x", "y"],
      "empty_labels": ["y"]}, images.UNKNOWN)],
)  # fmt: skip
def test_a_mask_that_is_not_there_is_unknown_or_empty_as_params_say(changes, value):
    fitted = images.fit(Record({"a": RAMP}, "x", "s", file="scan.png"), spec(**changes))
    assert (fitted.array[1] == value).all()


# Grids ---------------------------------------------------------------------------------------------------------------

STEPS = np.array([[0, 0, 1.0, -20], [0, 1.0, 0, -40], [2.0, 0, 0, 5]])
HERE = Grid((8, 8, 8), STEPS)
IDENTITY = Grid((8, 8, 8), np.array([[0, 0, 1.0, -7], [0, 1.0, 0, -7], [1.0, 0, 0, 0]]))  # as it is read


def shifted(grid, *mm):
    return Grid(grid.shape, grid.affine + np.array([[0, 0, 0, by] for by in mm]))


def beside(there, **changes):
    """A volume on the grid HERE beside a mask on another one."""
    array = np.random.default_rng(0).random(HERE.shape)
    mask = np.zeros(there.shape)
    mask[2:4] = 1
    found = Record({"a": array, "m": mask}, "x", "s", file="scan.nii", grids={"a": HERE, "m": there})
    return found, images.fit(found, spec((8, 8, 8), **changes))


def test_channels_on_one_grid_keep_its_spacing():
    found, fitted = beside(HERE)
    assert fitted.spacing_mm == (2.0, 2.0, 2.0)
    assert found.notes == []
    fitted = images.fit(found, spec((8, 8, 8), fit="stretch"))
    assert fitted.spacing_mm == (2.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "other",
    [
        shifted(HERE, 20, 0, 0),
        Grid((8, 8, 8), STEPS * [2, 2, 2, 1]),
        Grid((8, 8, 8), STEPS * [-1, 1, 1, 1]),
        Grid((8, 16, 16), STEPS),
    ],
)
def test_another_grid_is_refused_with_both_in_the_message(other):
    with pytest.raises(SetError, match=r"scan\.nii: 'm' lies on another grid than 'a'\. m: ") as said:
        beside(other)
    assert str(other) in str(said.value)
    assert str(HERE) in str(said.value)
    assert "image.grid: {onto: a}" in str(said.value)


def test_pictures_of_two_sizes_are_refused_without_a_way_that_does_not_help():
    with pytest.raises(SetError, match="m: 4x4 voxels at an unknown place; a: 8x8 voxels") as said:
        images.fit(record(RAMP, np.zeros((4, 4))), spec())
    assert "image.grid" not in str(said.value)


def test_an_identity_affine_beside_an_oriented_image_is_refused_whatever_params_say():
    for changes in ({}, {"grid": {"onto": "a"}}):
        for other in (IDENTITY, Grid((8, 4, 4), np.array([[0, 0, 1.0, -3], [0, 1.0, 0, -3], [1.0, 0, 0, 0]]))):
            with pytest.raises(SetError, match="the mask 'm' has an identity affine"):
                beside(other, **changes)


def test_two_image_channels_are_on_other_grids_though_one_has_an_identity_affine():
    pair = Image(size=(8, 8, 8), channels={"t1": "image", "t2": "image"}, labels=["x"])
    array, grids = np.random.default_rng(0).random((8, 8, 8)), {"t1": IDENTITY, "t2": shifted(IDENTITY, 0, 0, 2)}
    with pytest.raises(SetError, match="'t2' lies on another grid than 't1'"):
        images.fit(Record({"t1": array, "t2": array}, "x", "s", grids=grids), pair)
    onto = pair.model_copy(update={"grid": GridRule(onto="t1")})
    found = Record({"t1": array, "t2": array}, "x", "s", grids=grids)
    images.fit(found, onto)
    np.testing.assert_allclose(found.channels["t2"][2:], array[:-2], rtol=1e-5)


def test_identity_affines_of_all_files_say_no_less_than_no_affine():
    array = np.random.default_rng(0).random((8, 8, 8))
    grids = {"a": IDENTITY, "m": IDENTITY}
    fitted = images.fit(Record({"a": array, "m": array}, "x", "s", grids=grids), spec((8, 8, 8)))
    assert fitted.spacing_mm == (1.0, 1.0, 1.0)


def test_channels_are_brought_onto_one_where_params_say_so_and_it_is_noted():
    other = shifted(HERE, 0, 0, 4)  # two slices up
    found, fitted = beside(other, grid={"onto": "a"}, fit="stretch")
    assert (found.channels["m"][4:6] == 1).all()
    assert found.channels["m"].sum() == 2 * 64
    assert set(np.unique(fitted.array[1])) == {-1, 1}
    assert found.notes == [f"m resampled from {other}"]
    assert fitted.spacing_mm == (2.0, 1.0, 1.0)


def test_channels_are_brought_onto_the_mask_s_grid_too():
    coarse = Grid((4, 4, 4), np.array([[0, 0, 2.0, -19.5], [0, 2.0, 0, -39.5], [4.0, 0, 0, 6]]))
    found, fitted = beside(coarse, grid={"onto": "m"}, fit="stretch")
    assert found.channels["a"].shape == (4, 4, 4)
    assert found.channels["a"].mean() == pytest.approx(0.5, abs=0.05)
    assert fitted.spacing_mm == (2.0, 1.0, 1.0)


def test_all_channels_are_brought_to_a_spacing():
    found, fitted = beside(HERE, grid={"spacing_mm": [1, 2, 2]}, fit="stretch")
    assert found.channels["a"].shape == (16, 4, 4)
    assert found.channels["m"].sum() == 4 * 16
    assert fitted.spacing_mm == (2.0, 1.0, 1.0)
    with pytest.raises(SetError, match=r"scan\.png: a file without spacing cannot be resampled"):
        images.fit(record(RAMP), spec(grid={"spacing_mm": [1, 1]}))


def test_what_lies_outside_of_an_image_s_field_of_view_is_background():
    narrow = Grid((4, 8, 8), STEPS)
    grids = {"a": HERE, "b": narrow}
    both = Record({"a": np.zeros(HERE.shape), "b": np.zeros(narrow.shape)}, "x", "s", grids=grids)
    both.channels["a"][2:6, 2:6, 2:6] = both.channels["b"][2:4, 2:6, 2:6] = 5
    channels = {"a": "image", "b": "image"}
    image = Image(size=(8, 8, 8), channels=channels, labels=["x"], grid={"onto": "a"}, fit="stretch", scale=FULL)
    fitted = images.fit(both, image)
    assert (fitted.array[1, 4:] == -1).all()
    assert np.array_equal(fitted.array[0, :4], fitted.array[1, :4])
    assert fitted.outside == 0.25


def test_files_that_do_not_say_where_they_lie_are_taken_for_one_grid_if_as_large():
    array = np.random.default_rng(0).random((8, 8, 8))
    found = Record({"a": array, "m": array > 0.5}, "x", "s", grids={"a": HERE, "m": Grid((8, 8, 8))})
    assert images.fit(found, spec((8, 8, 8), fit="stretch")).spacing_mm == (2.0, 1.0, 1.0)
