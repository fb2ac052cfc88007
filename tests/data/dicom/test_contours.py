"""Contours of RT structure sets as masks."""

import numpy as np
import pytest

from fedsynth.data.dicom.contours import filled
from tests.dicoms import contour, make_series, voxels
from tests.sources.test_dicom import THREE, TWO, everything, source

ASKED = {"mr": "image", "lesion": "mask"}


def ring(n, rows, columns, step=3.0):
    """A rectangle around pixels of slice n, its rows and columns from the first to the last, in mm."""
    (a, b), (c, d) = rows, columns
    corners = [(a - 0.5, c - 0.5), (a - 0.5, d + 0.5), (b + 0.5, d + 0.5), (b + 0.5, c - 0.5)]
    return np.array([[-10.0 + column, -20.0 + 2 * row, 5.0 + step * n] for row, column in corners])


def inside(*slices, rows=(4, 11), columns=(6, 14)):
    found = np.zeros((6, 20, 24), bool)
    found[list(slices), rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    return found


def masks_of(folder, size, **args):
    records = everything(source(folder, ASKED, size, **args))
    assert [r.problem for r in records] == [""] * len(records)
    return np.squeeze([r.channels["lesion"] for r in records])


@pytest.mark.parametrize("size", [TWO, THREE])
def test_pixels_within_a_contour_are_marked_and_holes_are_not(tmp_path, size):
    paths = make_series(tmp_path, voxels(0))
    both = [ring(n, (4, 11), (6, 14)) for n in (1, 2)] + [ring(2, (6, 8), (8, 10))]
    contour(paths, {"GTV": both, "Lesion": both}, tmp_path / "rt.dcm")
    wanted = inside(1, 2) & ~inside(2, rows=(6, 8), columns=(8, 10))
    assert np.array_equal(masks_of(tmp_path, size), wanted)
    assert np.array_equal(masks_of(tmp_path, size, masks={"lesion": 1}), wanted)
    assert np.array_equal(masks_of(tmp_path, size, masks={"lesion": "gtv"}), wanted)


def test_contours_and_segments_are_turned_with_their_image(tmp_path):
    where = {
        "ImageOrientationPatient": [-1, 0, 0, 0, -1, 0],
        "ImagePositionPatient": lambda n: [13.0, 18.0, 5.0 + 3.0 * n],
    }
    paths = make_series(tmp_path, voxels(0), **where)
    contour(paths, {"lesion": [ring(1, (4, 11), (6, 14))]}, tmp_path / "rt.dcm")
    # the same place in the patient: rows and columns run the other way in the file, and are turned back
    assert np.array_equal(masks_of(tmp_path, THREE), inside(1))
    assert np.array_equal(masks_of(tmp_path, TWO), inside(1)[:, ::-1, ::-1])


@pytest.mark.parametrize("size", [TWO, THREE])
def test_contours_between_the_slices_are_of_another_series(tmp_path, size):
    paths = make_series(tmp_path, voxels(0))
    contour(paths, {"lesion": [ring(1.5, (4, 11), (6, 14))]}, tmp_path / "rt.dcm")
    problems = {r.problem.partition(" ")[2] for r in everything(source(tmp_path, ASKED, size))}
    assert problems == {
        "has a contour that lies 1.5 mm off the slices of its image, which are 3 mm apart: it was drawn on another"
        " series; export both together"
    }


def test_slices_that_were_left_out_and_open_lines_are_said(tmp_path):
    paths = make_series(tmp_path, voxels(0))
    contour(paths, {"lesion": [ring(n, (4, 11), (6, 14)) for n in (0, 2, 4)]}, tmp_path / "rt.dcm")
    (record,) = everything(source(tmp_path, ASKED))
    assert np.array_equal(record.channels["lesion"], inside(0, 2, 4))
    assert "is not drawn on 2 slices between the first and the last" in record.warnings[0]
    contour(paths, {"lesion": [ring(1, (4, 11), (6, 14))]}, tmp_path / "rt.dcm", kind="POINT")
    (record,) = everything(source(tmp_path, ASKED))
    assert not record.channels["lesion"].any()
    assert "1 points or open lines, which mark nothing" in record.warnings[0]


def test_an_image_that_does_not_say_where_it_lies_has_no_contours(tmp_path):
    paths = make_series(tmp_path, voxels(0), without=("ImagePositionPatient",))
    contour(paths, {"lesion": [ring(1, (4, 11), (6, 14))]}, tmp_path / "rt.dcm")
    assert all("does not say where it lies" in r.problem for r in everything(source(tmp_path, ASKED, TWO)))


def test_a_polygon_is_filled_as_matplotlib_does():
    from matplotlib.path import Path

    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:30, :40]
    for _ in range(20):
        turns = np.sort(rng.uniform(0, 2 * np.pi, 12))
        radii = rng.uniform(4, 18, 12)
        corners = np.stack([15 + radii * np.sin(turns), 20 + radii * np.cos(turns)], 1)
        points = np.stack([rows.ravel(), columns.ravel()], 1)
        wanted = Path(corners).contains_points(points).reshape(30, 40)
        assert np.array_equal(filled(corners, (30, 40)), wanted)
