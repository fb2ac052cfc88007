"""Which slices are a volume, and where it lies; each reason why they are none."""

import numpy as np
import pydicom
import pytest

from fedsynth.data import geometry, images
from fedsynth.data.manifest import SetError
from fedsynth.params import Image
from fedsynth.sources.dicom import DICOM
from tests.dicoms import at, make_enhanced, make_series, uid, voxels
from tests.sources.test_dicom import ONE, THREE, everything, source, the_one


def positions(step, decimals=None, shift=(0.0, 0.0)):
    """The position of each slice along z, written with so many decimals."""

    def of(n):
        place = n * step if decimals is None else round(n * step, decimals)
        return [-10.0 + shift[0] * n, -20.0 + shift[1] * n, place]

    return of


@pytest.mark.parametrize("decimals", [1, 2, None])
@pytest.mark.parametrize("step", [1 / 3, 0.625, 1.25])
def test_positions_that_are_rounded_are_regular(tmp_path, step, decimals):
    if (step, decimals) == (1 / 3, 1):
        pytest.skip("a tenth of a millimetre is a third of that step")
    make_series(tmp_path, voxels(0, (30, 6, 7)), ImagePositionPatient=positions(step, decimals), flip=False)
    record = the_one(tmp_path)
    assert record.problem == ""
    assert record.spacing_mm == pytest.approx((step, 2, 1), abs=2e-3)


def test_directions_that_differ_in_the_seventh_decimal_are_one(tmp_path):
    make_series(
        tmp_path, voxels(0), ImageOrientationPatient=lambda n: [1, n * 1e-7, 0, -n * 1e-7, 1, 0],
        FrameOfReferenceUID=lambda n: uid(f"a frame of reference for each slice {n}"),
    )  # fmt: skip
    record = the_one(tmp_path)
    assert np.array_equal(record.channels["mr"], voxels(0))
    assert record.spacing_mm == (3.0, 2.0, 1.0)


def test_a_volume_says_where_it_lies_however_it_was_cut(tmp_path):
    array = voxels(0, (6, 8, 10))
    make_series(tmp_path / "a", array)
    # the same voxels in coronal slices from back to front, rows to the right: columns to the feet
    cut = array.transpose(1, 0, 2)[::-1, ::-1, ::-1]
    make_series(
        tmp_path / "b", cut, "b", PixelSpacing=[3.0, 1.0], ImageOrientationPatient=[-1, 0, 0, 0, 0, -1],
        ImagePositionPatient=lambda n: [-10.0 + 9, -20.0 + 14 - 2 * n, 5.0 + 15],
    )  # fmt: skip
    first, second = everything(source(tmp_path))
    assert np.array_equal(first.channels["mr"], second.channels["mr"])
    grids = [r.grids["mr"] for r in (first, second)]
    assert geometry.same(*grids)
    assert np.allclose(grids[0].affine[:, 3], [-10, -20, 5])
    assert np.allclose(grids[1].affine, grids[0].affine)


def test_frames_of_one_file_are_ordered_by_where_they_lie(tmp_path):
    array, order = voxels(0), [3, 0, 5, 1, 4, 2]
    make_enhanced(tmp_path / "a.dcm", array[order], [at(3.0 * n) for n in order])
    record = the_one(tmp_path)
    assert np.array_equal(record.channels["mr"], array)
    assert record.spacing_mm == (3.0, 2.0, 1.0)


def echo(n):
    return at(3.0 * (n // 2), MREchoSequence={"EffectiveEchoTime": 10.0 + n % 2})


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"ImagePositionPatient": positions(3.0, shift=(0, 1.2))}, "gantry tilted by 21.8°"),
        ({"without": ("PixelSpacing",)}, "does not say how large its pixels are"),
        ({"without": ("ImagePositionPatient",)}, "does not say of 6 of its 6 slices where they lie"),
        ({"ImagePositionPatient": lambda n: [0, 0, 3.0 * (n + (n > 3))]}, "one may be missing"),
        ({"ImagePositionPatient": lambda n: [0, 0, 3.0 * n + (n % 2)]}, "off its regular place"),
        ({"ImagePositionPatient": lambda n: [8.0 * (n % 2), 0, 3.0 * n]}, "shifted against each other irregularly"),
        (
            {"ImageOrientationPatient": lambda n: [1, 0, 0, 0, *((0.98, 0.199) if n > 2 else (1, 0))]},
            "in several directions, up to 11",
        ),
        ({"PixelSpacing": lambda n: [2.0, 1.0 + (n > 2)]}, "pixels of several sizes"),
        (
            {"ImagePositionPatient": lambda n: [0, 0, 3.0 * (n // 2)], "EchoTime": lambda n: str(10 + n % 2)},
            "has 2 slices in each place that differ in echo;",
        ),
        (
            {"ImagePositionPatient": lambda n: [0, 0, 3.0 * (n // 3)], "TriggerTime": lambda n: str(n % 3)},
            "has 3 slices in each place that differ in time;",
        ),
    ],
)
def test_each_series_that_is_no_volume_says_why(tmp_path, tags, said):
    make_series(tmp_path, voxels(0), **tags)
    problem = the_one(tmp_path).problem
    assert said in problem
    assert "damaged" not in problem


def test_a_slice_of_another_size_is_named_with_both(tmp_path):
    paths = make_series(tmp_path, voxels(0))
    file = pydicom.dcmread(paths[2])
    file.Rows, file.PixelData = 22, voxels(0, (22, 24)).tobytes()
    file.save_as(paths[2])
    assert "has slices of 20x24 and 22x24 pixels" in the_one(tmp_path).problem


@pytest.mark.parametrize(
    ("groups", "shared", "said"),
    [
        ([echo(n) for n in range(6)], None, "has 2 slices in each place that differ in echo"),
        ([at(3.0 * n) for n in range(6)], {}, "does not say how large its pixels are"),
    ],
)
def test_frames_of_one_file_that_are_no_volume_say_why_and_are_slices_all_the_same(tmp_path, groups, shared, said):
    make_enhanced(tmp_path / "a.dcm", voxels(0), groups, shared)
    assert said in the_one(tmp_path).problem
    flat = everything(source(tmp_path, size=(8, 8)))
    assert [r.problem for r in flat] == [""] * 6


def test_one_slice_is_a_volume_as_thick_as_it_says(tmp_path):
    make_series(tmp_path / "a", voxels(0, (1, 20, 24)))
    assert the_one(tmp_path / "a").spacing_mm == (3.0, 2.0, 1.0)
    make_series(tmp_path / "b", voxels(0, (1, 20, 24)), without=("SliceThickness",))
    assert "is one slice of unknown thickness" in the_one(tmp_path / "b").problem


def test_a_tilted_gantry_is_straightened_on_a_grid_that_is_asked_for(tmp_path):
    """A tilted bar that is upright in the patient lies askew in the array, and upright again on a straight grid."""
    array = np.zeros((9, 40, 24), np.uint16)
    for n in range(9):
        array[n, 20 - n : 24 - n, 8:12] = 1000  # of rows 2 mm apart, which lie n mm lower, one row up
    make_series(tmp_path, array, ImagePositionPatient=positions(3.0, shift=(0.0, 2.0)), flip=False)
    asked = Image(size=(9, 40, 24), channels={"mr": "image"}, labels=["x"], grid={"spacing_mm": [3, 2, 1]})
    record = next(DICOM(asked, 1, str(tmp_path), partition=ONE).records("here"))
    assert record.problem == ""
    images.together(record, asked)
    grid, plane = record.grids["mr"], np.nan_to_num(record.channels["mr"])
    unit = grid.affine[:, :3] / np.linalg.norm(grid.affine[:, :3], axis=0)
    assert np.allclose(unit.T @ unit, np.eye(3))
    middles = [np.argwhere(s > 500).mean(0) for s in plane]
    assert np.ptp(middles, axis=0).max() < 0.6
    assert any("resampled from" in note for note in record.notes)


def test_an_image_of_two_series_is_refused_on_two_grids_and_resampled_onto_one(tmp_path):
    make_series(tmp_path / "1", voxels(0), "s1", SeriesDescription="T1")
    make_series(tmp_path / "2", voxels(1), "s2", SeriesDescription="T2", step=6.0)
    asked = {"size": THREE, "channels": {"a": "image", "b": "image"}, "labels": ["x"]}
    args = {"channels": {"a": "T1", "b": "T2"}, "partition": ONE}
    image = Image(**asked)
    (record,) = DICOM(image, 1, str(tmp_path), **args).records("here")
    with pytest.raises(SetError, match=r"'b' lies on another grid than 'a'\. b: .* of 6x2x1 mm .*; a: .* of 3x2x1 mm"):
        images.together(record, image)
    image = Image(**asked, grid={"onto": "a"})
    (record,) = DICOM(image, 1, str(tmp_path), **args).records("here")
    images.together(record, image)
    assert np.array_equal(record.channels["b"][::2], voxels(1)[:3])
    assert np.allclose(record.channels["b"][1], (voxels(1)[0].astype(float) + voxels(1)[1]) / 2)


def test_a_slab_thinner_than_a_stored_voxel_is_there(tmp_path):
    make_series(tmp_path, voxels(0, (2, 80, 80)), step=1.0, SliceThickness=1.0, PixelSpacing=[1.0, 1.0])
    asked = Image(size=(8, 8, 8), channels={"mr": "image"}, labels=["x"])
    (record,) = everything(source(tmp_path))
    assert images.fit(record, asked).array.max() > -1
