"""Grids: where voxels lie, when two grids are one, and resampling from one onto another."""

import numpy as np
import pytest

from fedsynth.data import geometry
from fedsynth.data.geometry import Grid
from fedsynth.data.manifest import SetError

# steps of z (to the head), y (to the back) and x (to the left), and the first voxel, in mm
AFFINE = np.array([[0, 0, 0.5, -10], [0, 1.0, 0, 20], [2.0, 0, 0, 30]])
GRID = Grid((10, 20, 30), AFFINE)


def moved(grid, *mm):
    return Grid(grid.shape, grid.affine + np.column_stack([np.zeros((3, len(grid.shape))), mm]))


def turned(grid, degrees):
    """About the axis to the head."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return Grid(grid.shape, np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ grid.affine)


def places(grid):
    """(*S, 3): each voxel's place in mm."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    return index @ grid.affine[:, :-1].T + grid.affine[:, -1]


def ramp(grid):
    """A function of the place that is linear, so that linear interpolation finds it exactly."""
    return places(grid) @ np.array([1.0, -2.0, 0.5]) + 7


def test_a_grid_tells_its_spacing_and_its_place_in_words():
    assert GRID.spacing_mm == (2.0, 1.0, 0.5)
    assert str(GRID) == "10x20x30 voxels of 2x1x0.5 mm from (-10, 20, 30), axes S P L"
    assert str(Grid((4, 5))) == "4x5 voxels at an unknown place"
    assert Grid((4, 5)).spacing_mm is None
    assert str(turned(GRID, 30)).endswith("axes S P(30°) L(30°)")
    assert str(Grid((2, 2, 2), AFFINE * [-1, -1, -1, 1])).endswith("axes I A R")


def test_a_slice_lies_where_it_was_cut():
    assert np.array_equal(places(GRID.without(0, 4)), places(GRID)[4])
    assert np.array_equal(places(GRID.without(2, 29)), places(GRID)[:, :, 29])
    assert GRID.without(1, 3).spacing_mm == (2.0, 0.5)
    assert Grid((4, 5, 6)).without(1, 2).shape == (4, 6)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (GRID, True),
        (moved(GRID, 0.04, 0, 0), True),  # less than a tenth of the shortest edge, .05 mm
        (moved(GRID, 0.06, 0, 0), False),
        (moved(GRID, 20, 0, 0), False),
        (turned(GRID, 0.05), True),
        (turned(GRID, 5), False),
        (Grid(GRID.shape, AFFINE * [1, 1, -1, 1]), False),  # mirrored
        (Grid(GRID.shape, AFFINE * [2, 2, 2, 1]), False),  # larger voxels
        (Grid((10, 20, 31), AFFINE), False),
        (Grid(GRID.shape), True),  # does not say where it lies
        (Grid((30, 20, 10)), False),
    ],
)
def test_grids_are_one_within_a_tenth_of_a_voxel(other, same):
    assert geometry.same(GRID, other) == same
    assert geometry.same(other, GRID) == same


def test_a_tolerance_of_a_thin_slice_is_not_that_of_a_thick_one():
    thick = Grid((3, 40, 40), np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [20.0, 0, 0, 0]]))
    assert not geometry.same(thick, moved(thick, 0.5, 0, 0))


def test_identity_is_one_millimetre_along_the_axes_from_the_origin():
    steps = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [1.0, 0, 0, 0]])
    for turn in ([1, 1, 1, 1], [1, -1, 1, 1], [-1, -1, -1, 1]):  # as reading turns an array
        affine = steps * turn
        affine[:, 3] = -np.minimum(affine[:, :3].sum(1), 0) * [5, 4, 3]
        assert geometry.is_identity(Grid((4, 5, 6), affine))
    assert not geometry.is_identity(Grid((4, 5, 6), steps * [2, 2, 2, 1]))
    assert not geometry.is_identity(moved(Grid((4, 5, 6), steps), 10, 0, 0))
    assert not geometry.is_identity(Grid((4, 5, 6)))


def test_another_spacing_covers_the_same_part_of_the_patient():
    new = geometry.with_spacing(GRID, (1.0, 2.0, 1.5))
    assert new.shape == (20, 10, 10)
    assert new.spacing_mm == pytest.approx((1.0, 2.0, 1.5))
    np.testing.assert_allclose(new.corners.mean(0), GRID.corners.mean(0))
    with pytest.raises(SetError, match="without spacing"):
        geometry.with_spacing(Grid((4, 5)), (1.0, 1.0))


@pytest.mark.parametrize(
    "other",
    [
        geometry.with_spacing(GRID, (2.0, 1.0, 0.5)),
        geometry.with_spacing(GRID, (1.0, 0.5, 0.25)),
        moved(GRID, 1.3, -2.1, 3.0),
        turned(GRID, 20),
        Grid((30, 20, 10), AFFINE[:, [2, 1, 0, 3]]),  # other axes first
        Grid((8, 12, 20), AFFINE * [-1, 1, -1, 1] + np.array([[0, 0, 0, 12], [0, 0, 0, 0], [0, 0, 0, 18]])),
    ],
)
def test_what_is_resampled_stays_where_it_lies_in_the_patient(other):
    found = geometry.onto(ramp(GRID), GRID, other, order=1)
    assert found.shape == other.shape
    old = np.linalg.inv(GRID.affine[:, :3]) @ (places(other) - GRID.affine[:, 3])[..., None]
    inside = ((old[..., 0] >= 0) & (old[..., 0] <= np.array(GRID.shape) - 1)).all(-1)
    assert inside.sum() > 100
    np.testing.assert_allclose(found[inside], ramp(other)[inside], atol=1e-3)


def test_beyond_the_old_grid_images_have_nothing_and_masks_are_not_marked():
    other = moved(GRID, 0, 0, 8)  # four slices up
    image = geometry.onto(ramp(GRID), GRID, other, order=1)
    assert np.isnan(image[6:]).all()
    assert np.isfinite(image[:6]).all()
    mask = geometry.onto(np.ones(GRID.shape), GRID, other, order=0)
    assert (mask[:6] == 1).all()
    assert (mask[6:] == 0).all()


def test_the_outer_half_of_the_outermost_voxels_is_covered():
    fine = geometry.with_spacing(GRID, (1.0, 0.5, 0.25))
    assert np.isfinite(geometry.onto(ramp(GRID), GRID, fine, order=1)).all()
    assert (geometry.onto(np.ones(GRID.shape), GRID, fine, order=0) == 1).all()


def test_labels_stay_whole_and_keep_their_volume():
    labels = np.zeros(GRID.shape)
    labels[2:8, 4:16, 6:24] = 3
    found = geometry.onto(labels, GRID, geometry.with_spacing(GRID, (1.0, 1.0, 1.0)), order=0)
    assert set(np.unique(found)) == {0, 3}
    assert (found == 3).sum() == pytest.approx(6 * 12 * 18 * 2 * 0.5, rel=0.1)


def test_reducing_averages_and_does_not_alias():
    noise = np.random.default_rng(0).normal(size=(24, 24, 24))
    grid = Grid(noise.shape, np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [1.0, 0, 0, 0]]))
    assert geometry.onto(noise, grid, geometry.with_spacing(grid, (4.0, 4.0, 4.0)), order=1).std() < 0.2


def test_nan_spreads_no_further_than_its_voxels():
    image = ramp(GRID)
    image[0] = np.nan
    found = geometry.onto(image, GRID, geometry.with_spacing(GRID, (1.0, 1.0, 0.5)), order=1)
    assert np.isnan(found[:2]).all()
    assert np.isfinite(found[2:]).all()


def test_slices_in_different_planes_are_refused():
    a, b = GRID.without(0, 0), GRID.without(0, 3)
    assert geometry.onto(np.ones(a.shape), a, a, order=1).all()
    with pytest.raises(SetError, match="different planes"):
        geometry.onto(np.ones(b.shape), b, a, order=1)
    with pytest.raises(SetError, match="do not say where they lie"):
        geometry.onto(np.ones((4, 5)), Grid((4, 5)), Grid((8, 10)), order=1)
