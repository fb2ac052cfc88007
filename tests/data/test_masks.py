"""Masks: label values, and pictures of masks as people save them. What is doubtful is refused or told."""

import numpy as np
import pytest
from PIL import Image as Pillow

from fedsynth.data import masks
from fedsynth.data.geometry import Grid
from fedsynth.data.manifest import SetError
from fedsynth.data.planes import Planes
from fedsynth.data.reading import read

DISC = np.hypot(*np.mgrid[-32:32, -32:32]) < 9
AREA = int(DISC.sum())


def labels(values, **more):
    values = np.asarray(values, np.float32)
    return masks.read(Planes(values[None], Grid(values.shape), **more), "m.nii.gz")


def picture(path, array, mode=None, **save):
    Pillow.fromarray(array, mode).save(path, **save)
    return masks.read(read(path, 2, mask=True), path.name)


@pytest.mark.parametrize("off", [0.0, 2e-5, -0.009, 0.0099])
def test_values_near_an_integer_are_that_integer(off):
    assert masks.integers(np.array([0.0, 1, 2]) + off, "m").tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "said"),
    [([0, 1.02, 2], "1.02"), ([0, 0.5, 1.5], "0.5 and 1 more"), ([0, np.nan], "nan"), ([0, np.inf], "inf")],
)
def test_values_far_from_any_integer_are_refused_with_the_first(values, said):
    with pytest.raises(SetError, match=rf"m\.nii\.gz holds the label value {said}.*no integer"):
        labels([values])


def test_scaled_labels_are_whole_again():
    stored = np.array([[0, 255, 510]], np.int16)
    found = labels(stored * np.float32(0.003921))  # 255 becomes .99985
    assert found.labels.tolist() == [[0, 1, 2]]


def test_some_values_or_all_above_zero_mark():
    found = labels([[0, 1, 2, 3]]).labels
    assert masks.selected(found, None).tolist() == [[False, True, True, True]]
    assert masks.selected(found, 2).tolist() == [[False, False, True, False]]
    assert masks.selected(found, [1, 3]).tolist() == [[False, True, False, True]]


def test_a_label_file_of_several_planes_is_refused():
    with pytest.raises(SetError, match=r"m\.nii has 2 planes; a mask has one"):
        masks.read(Planes(np.zeros((2, 4, 4), np.float32), Grid((4, 4))), "m.nii")


def test_an_inverted_label_file_is_told():
    volume = np.zeros((8, 16, 16))
    volume[2:5, 4:9, 4:9] = 1
    assert labels(volume).warnings == []
    (told,) = labels(1 - volume).warnings
    assert "marks 100% of its border and 96% of its volume; is it inverted?" in told


@pytest.mark.parametrize("top", [1, 7, 255])
def test_gray_png_marks_what_is_above_zero(tmp_path, top):
    found = picture(tmp_path / "m.png", (DISC * top).astype(np.uint8))
    assert (found.labels > 0).sum() == AREA
    assert found.warnings == []


def test_one_bit_and_sixteen_bit_png_mark(tmp_path):
    for array in (DISC, (DISC * 65535).astype(np.uint16)):
        found = picture(tmp_path / "m.png", array)
        assert (found.labels > 0).sum() == AREA
        assert found.warnings == []


def test_a_palette_is_read_by_its_index_whatever_its_colours(tmp_path):
    regions = np.zeros((64, 64), np.uint8)
    regions[10:30, 10:30], regions[40:50, 40:50] = 1, 2
    for colours in ([255, 255, 255, 200, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 9, 9, 9]):
        paletted = Pillow.fromarray(regions, "P")
        paletted.putpalette(colours)
        paletted.save(tmp_path / "m.png")
        found = masks.read(read(tmp_path / "m.png", 2, mask=True), "m.png")
        assert np.array_equal(found.labels, regions)
        assert found.warnings == []


def test_many_labels_in_a_palette_are_labels(tmp_path):
    regions = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8), np.ones((8, 8), np.uint8))
    regions[:, [0, -1]] = regions[[0, -1]] = 0
    paletted = Pillow.fromarray(regions, "P")
    paletted.putpalette(list(range(192)))
    paletted.save(tmp_path / "m.png")
    found = masks.read(read(tmp_path / "m.png", 2, mask=True), "m.png")
    assert np.array_equal(found.labels, regions)


def test_a_colour_marks_where_any_of_its_planes_does(tmp_path):
    red = np.zeros((64, 64, 3), np.uint8)
    red[DISC, 0] = 255
    assert (picture(tmp_path / "m.png", red).labels > 0).sum() == AREA


def test_transparency_counts_only_where_nothing_else_can_mark(tmp_path):
    alpha = np.zeros((64, 64, 4), np.uint8)
    alpha[..., 0], alpha[..., 3] = 255, DISC * 255
    found = picture(tmp_path / "m.png", alpha)
    assert (found.labels > 0).sum() == AREA
    assert found.warnings == ["m.png marks by its transparency alone"]
    opaque = np.dstack([np.repeat((DISC * 255).astype(np.uint8)[..., None], 3, -1), np.full((64, 64), 255, np.uint8)])
    found = picture(tmp_path / "m.png", opaque)
    assert (found.labels > 0).sum() == AREA
    assert found.warnings == []


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_jpeg_marks_what_lies_above_the_middle(tmp_path, quality):
    found = picture(tmp_path / "m.jpg", (DISC * 255).astype(np.uint8), quality=quality)
    assert (found.labels > 0).sum() == pytest.approx(AREA, abs=6)
    (told,) = found.warnings
    assert "between the ends" in told


def test_black_jpeg_marks_nothing_and_what_is_faint_is_told(tmp_path):
    found = picture(tmp_path / "m.jpg", np.zeros((64, 64), np.uint8))
    assert not found.labels.any()
    assert found.warnings == []
    found = picture(tmp_path / "m.jpg", (DISC * 20).astype(np.uint8))  # labels that JPEG has blurred away
    assert not found.labels.any()
    assert "nothing is marked" in found.warnings[0]


def test_a_photograph_is_no_mask(tmp_path):
    rows = np.linspace(0, 255, 64)[:, None] * np.ones(64)
    for name in ("m.png", "m.jpg"):
        with pytest.raises(SetError, match=rf"{name} is no mask: 7\d% of its values lie between \d and 25\d"):
            picture(tmp_path / name, rows.astype(np.uint8))


def test_many_gray_values_without_white_are_refused_with_what_to_do(tmp_path):
    instances = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8), np.ones((8, 8), np.uint8))
    with pytest.raises(SetError, match="64 values from 0 to 63; save labels as PNG with a palette"):
        picture(tmp_path / "m.png", instances)
    assert picture(tmp_path / "m.png", instances.astype(np.uint16)).labels.max() == 63


def test_soft_edges_are_told(tmp_path):
    from scipy import ndimage

    soft = ndimage.gaussian_filter(DISC * 255.0, 1).astype(np.uint8)
    soft[32, 32] = 255
    found = picture(tmp_path / "m.png", soft)
    assert (found.labels > 0).sum() == pytest.approx(AREA, rel=0.05)
    assert "marked is what lies above" in found.warnings[0]
    few = np.where(soft > 200, 255, np.where(soft > 50, 128, 0)).astype(np.uint8)
    assert picture(tmp_path / "m.png", few).warnings == [
        "m.png has the values 0, 128, 255; each above 0 is a label",
    ]


@pytest.mark.parametrize("kind", ["gray", "palette", "jpg"])
def test_an_inverted_mask_is_turned_and_told(tmp_path, kind):
    array = (~DISC * (1 if kind == "palette" else 255)).astype(np.uint8)
    if kind == "palette":
        paletted = Pillow.fromarray(array, "P")
        paletted.putpalette([200, 0, 0, 0, 0, 0])
        paletted.save(tmp_path / "m.png")
        found = masks.read(read(tmp_path / "m.png", 2, mask=True), "m.png")
    else:
        found = picture(tmp_path / ("m.jpg" if kind == "jpg" else "m.png"), array)
    assert (found.labels > 0).sum() == pytest.approx(AREA, abs=6 * (kind == "jpg"))
    assert "100% of the border, 94% of the area are marked); it is taken for inverted" in found.warnings[-1]


def test_a_lesion_that_fills_the_picture_is_kept_and_told(tmp_path):
    large = np.full((64, 64), 255, np.uint8)
    large[:3, :2] = 0  # a corner of healthy skin
    found = picture(tmp_path / "m.png", large)
    assert (found.labels > 0).sum() == 64 * 64 - 6
    assert "marks 98% of its border and 100% of its area; is it inverted?" in found.warnings[0]


def test_a_mask_that_marks_everything_is_refused(tmp_path):
    for name in ("m.png", "m.jpg"):
        with pytest.raises(SetError, match=f"{name} marks every pixel"):
            picture(tmp_path / name, np.full((64, 64), 255, np.uint8))


def test_labels_without_a_background_are_refused(tmp_path):
    regions = np.full((64, 64), 3, np.uint8)
    regions[10:20, 10:20], regions[30:40, 30:40] = 1, 0
    with pytest.raises(SetError, match=r"marks 100% of its border .*give its background the value 0"):
        picture(tmp_path / "m.png", regions)
