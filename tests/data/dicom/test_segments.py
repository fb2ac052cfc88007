"""Segmentations on the slices of their series: by reference, by place, on other grids."""

import highdicom as hd
import numpy as np
import pydicom
import pytest

from fedsynth.data import images
from fedsynth.params import Image
from fedsynth.sources.dicom import DICOM
from tests.dicoms import box, draw, make_series, uid, voxels
from tests.sources.test_dicom import ONE, THREE, TWO, everything, source

ASKED = {"mr": "image", "lesion": "mask"}


def changed(path, *names, frames=()):
    """A segmentation without attributes of its own and of its frames."""
    file = pydicom.dcmread(path)
    for name in names:
        delattr(file, name)
    for group in file.PerFrameFunctionalGroupsSequence:
        for name in frames:
            if name in group:
                delattr(group, name)
    file.save_as(path)


def masks_of(folder, size, **args):
    records = everything(source(folder, ASKED, size, **args))
    assert [r.problem for r in records] == [""] * len(records)
    return np.squeeze([r.channels["lesion"] for r in records])


@pytest.mark.parametrize("size", [TWO, THREE])
@pytest.mark.parametrize(
    ("names", "frames"),
    [
        ((), ()),
        ((), ("DerivationImageSequence",)),
        (("ReferencedSeriesSequence",), ()),
        (("ReferencedSeriesSequence", "SourceImageSequence"), ("DerivationImageSequence",)),
    ],
)
def test_a_segmentation_is_found_by_whatever_it_says(tmp_path, size, names, frames):
    paths = make_series(tmp_path, voxels(0))
    changed(draw(paths, {"lesion": box()}, tmp_path / "seg.dcm"), *names, frames=frames)
    assert np.array_equal(masks_of(tmp_path, size), box())


def test_a_segmentation_that_says_only_its_images_is_laid_on_those(tmp_path):
    paths = make_series(tmp_path, voxels(0), without=("ImagePositionPatient",))
    other = make_series(tmp_path / "other", voxels(0))
    seg = draw(other, {"lesion": box()}, tmp_path / "seg.dcm")
    for path in other:
        path.unlink()
    changed(seg, frames=("PlanePositionSequence",))
    assert len(paths) == 6
    # without places the images are ordered by their number, which runs downwards here
    assert np.array_equal(masks_of(tmp_path, TWO), box()[::-1])


@pytest.mark.parametrize("size", [TWO, THREE])
def test_a_segmentation_that_says_neither_is_refused_with_the_reason(tmp_path, size):
    paths = make_series(tmp_path, voxels(0))
    seg = draw(paths, {"lesion": box()}, tmp_path / "seg.dcm")
    changed(seg, frames=("DerivationImageSequence", "PlanePositionSequence"))
    problems = {r.problem.partition(" ")[2] for r in everything(source(tmp_path, ASKED, size))}
    assert len(problems) == 1
    assert "says neither where its frames lie nor of which images they are drawn" in problems.pop()


def test_a_segmentation_that_is_turned_and_cropped_is_laid_on_its_image(tmp_path):
    paths = make_series(tmp_path, voxels(0))
    other = make_series(
        tmp_path / "other", voxels(0)[:, ::-1, 2:][:, :, ::-1], "o", PixelSpacing=[2.0, 1.0],
        ImageOrientationPatient=[-1, 0, 0, 0, -1, 0],
        ImagePositionPatient=lambda n: [-10.0 + 23, -20.0 + 2 * 19, 5.0 + 3.0 * n],
        FrameOfReferenceUID=uid("frame v"),
    )  # fmt: skip
    draw(other, {"lesion": box()[:, ::-1, 2:][:, :, ::-1]}, tmp_path / "seg.dcm")
    changed(tmp_path / "seg.dcm", "ReferencedSeriesSequence", "SourceImageSequence", frames=["DerivationImageSequence"])
    for path in other:
        path.unlink()
    assert len(paths) == 6
    assert np.array_equal(masks_of(tmp_path, THREE), box())
    assert np.array_equal(masks_of(tmp_path, TWO), box())


def finer(tmp_path):
    """An image, and a segmentation on slices half as far apart."""
    make_series(tmp_path, voxels(0))
    other = make_series(tmp_path / "other", voxels(0, (11, 20, 24)), "o", step=1.5, SliceThickness=1.5)
    draw(other, {"lesion": np.repeat(box(), 2, 0)[:11]}, tmp_path / "seg.dcm")
    changed(tmp_path / "seg.dcm", "ReferencedSeriesSequence", "SourceImageSequence", frames=["DerivationImageSequence"])
    for path in other:
        path.unlink()


def test_a_segmentation_on_another_grid_is_refused_with_both_or_resampled(tmp_path):
    finer(tmp_path)
    for grid in (None, {"onto": "mr"}):
        image = Image(size=THREE, channels=ASKED, labels=["x"], grid=grid)
        (record,) = DICOM(image, 1, str(tmp_path), partition=ONE).records("here")
        if grid is None:
            with pytest.raises(Exception, match="'lesion' lies on another grid than 'mr'"):
                images.together(record, image)
        else:
            images.together(record, image)
            assert np.array_equal(record.channels["lesion"], box())
            assert any("lesion resampled" in note for note in record.notes)


def test_a_segmentation_on_another_grid_is_no_empty_mask_of_a_slice(tmp_path):
    finer(tmp_path)
    assert all("lies on other voxels" in r.problem for r in everything(source(tmp_path, ASKED, TWO)))


def test_a_segmentation_of_a_series_that_is_not_here_is_counted(tmp_path):
    make_series(tmp_path, voxels(0))
    other = make_series(tmp_path / "other", voxels(0), "o", "w", FrameOfReferenceUID=uid("another"))
    draw(other, {"lesion": box()}, tmp_path / "seg.dcm")
    for path in other:
        path.unlink()
    (record,) = everything(source(tmp_path, ASKED))
    assert "lesion" not in record.channels
    assert "of series that are not here (1)" in record.warnings[0]


def test_a_name_that_no_segment_has_is_said_and_the_mask_is_unknown(tmp_path):
    draw(make_series(tmp_path, voxels(0)), {"liver": box()}, tmp_path / "seg.dcm")
    (record,) = everything(source(tmp_path, ASKED, masks={"lesion": "tumour"}))
    assert "lesion" not in record.channels
    assert "has no segment for 'lesion'" in record.warnings[0]
    assert "liver" not in record.warnings[0]


def test_one_mask_of_several_segments_of_other_names_is_all_of_them_and_said(tmp_path):
    paths = make_series(tmp_path, voxels(0))
    draw(paths, {"a": box(depth=1), "b": box(depth=4)}, tmp_path / "seg.dcm")
    (record,) = everything(source(tmp_path, ASKED))
    assert np.array_equal(record.channels["lesion"], box(depth=4))
    assert "all 2 of it are taken" in record.warnings[0]


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_fractional_segments_count_from_half_and_label_maps_by_number(tmp_path, kind):
    from pydicom.sr.codedict import codes

    paths = make_series(tmp_path, voxels(0))
    mask = box() * (0.8 if kind == "FRACTIONAL" else 1) + box(depth=5) * 0.2 * (kind == "FRACTIONAL")
    hd.seg.Segmentation(
        [pydicom.dcmread(p) for p in paths], mask.astype(np.float32 if kind == "FRACTIONAL" else np.uint8), kind,
        [hd.seg.SegmentDescription(1, "lesion", codes.cid7150.Tissue, codes.cid7150.Tissue, "MANUAL")],
        series_instance_uid=uid("f"), series_number=9, sop_instance_uid=uid("f1"), instance_number=1, manufacturer="x",
        manufacturer_model_name="y", software_versions="1", device_serial_number="z",
    ).save_as(tmp_path / "seg.dcm")  # fmt: skip
    assert np.array_equal(masks_of(tmp_path, THREE), box())
    assert np.array_equal(masks_of(tmp_path, TWO), box())
