"""Reading and fitting of images: kinds of files, colours, sizes, spacing, ranges, and files that are broken."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from fedsynth.data import images
from fedsynth.data.manifest import SetError
from fedsynth.params import Image
from fedsynth.sources import Record

GRAY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GRAY, GRAY // 2, 255 - GRAY], -1)


def spec(size=(8, 8), masks=True, **changes):
    channels = {"a": "image"} | ({"m": "mask"} if masks else {})
    return Image(size=size, channels=channels, labels=["x"], **changes)


def record(array, mask=None, **fields):
    return Record(
        {"a": array, "m": np.zeros_like(array) if mask is None else mask}, "x", "s", file="scan.png", **fields
    )


@pytest.mark.parametrize("pixels", [GRAY, COLOUR], ids=["gray", "colour"])
def test_png_reads_back_exactly(tmp_path, pixels):
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    planes, spacing = images.read(tmp_path / "a.png", 2)
    assert np.array_equal(planes, np.atleast_3d(pixels).transpose(2, 0, 1))
    assert spacing is None


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "P", "LA", "RGB", "RGBA"])
def test_every_mode_of_png_becomes_one_or_three_planes_of_its_values(tmp_path, mode):
    Pillow.fromarray(GRAY).convert("I" if mode == "I;16" else mode).convert(mode).save(tmp_path / "a.png")
    planes, _ = images.read(tmp_path / "a.png", 2)
    assert len(planes) == (3 if mode in ("P", "RGB", "RGBA") else 1)
    assert planes.max() > 0
    if mode in ("L", "LA", "RGB", "RGBA", "I;16"):
        assert np.array_equal(planes[0], GRAY)


def test_jpeg_is_read_upright(tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Pillow.fromarray(np.kron(GRAY, np.ones((8, 8), np.uint8))).save(tmp_path / "a.JPG", format="JPEG", exif=exif)
    planes, _ = images.read(tmp_path / "a.JPG", 2)
    assert planes.shape == (1, 64, 48)


def test_npy_keeps_nan_and_takes_channels_last(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 5, 6), np.nan))
    assert np.isnan(images.read(tmp_path / "a.npy", 3)[0]).all()
    np.save(tmp_path / "b.npy", COLOUR)
    assert images.read(tmp_path / "b.npy", 2)[0].shape == (3, 6, 8)


def test_nifti_comes_in_one_direction_whichever_way_it_was_stored(tmp_path):
    array = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    stored = nib.Nifti1Image(array, np.diag([-1.0, -2.0, 3.0, 1.0]))  # x to the left, y to the back, z up
    turned = stored.as_reoriented(nib.orientations.axcodes2ornt("SRA"))
    for name, volume in (("a.nii", stored), ("b.nii.gz", turned)):
        nib.save(volume, tmp_path / name)
    for name in ("a.nii", "b.nii.gz"):
        planes, spacing = images.read(tmp_path / name, 3)
        assert spacing == (3.0, 2.0, 1.0)
        assert np.array_equal(planes[0], array.T)


@pytest.mark.parametrize(("shape", "spacing"), [((5, 4, 1), (2.0, 1.0)), ((5, 1, 4), (3.0, 1.0)), ((5, 4), (2.0, 1.0))])
def test_a_slice_in_a_nifti_file_is_an_image(tmp_path, shape, spacing):
    nib.save(nib.Nifti1Image(np.ones(shape, np.float32), np.diag([1.0, 2.0, 3.0, 1.0])), tmp_path / "a.nii.gz")
    planes, found = images.read(tmp_path / "a.nii.gz", 2)
    assert planes.shape == (1, 4, 5)
    assert found == spacing


def test_a_mask_is_set_where_anything_is_above_zero(tmp_path):
    for name, pixels in (("a", GRAY), ("b", COLOUR // 86)):
        Pillow.fromarray(pixels).save(tmp_path / f"{name}.png")
        mask, _ = images.read(tmp_path / f"{name}.png", 2, mask=True)
        assert np.array_equal(mask[0], np.atleast_3d(pixels).max(-1) > 0)


def broken(folder, name):
    path = folder / name
    if name == "cut.png":
        Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:1000])
    elif name == "flipped.png":  # a bit in the middle of the compressed pixels
        Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(bytes(data))
    elif name == "cut.nii.gz":
        nib.save(nib.Nifti1Image(np.random.default_rng(0).random((8, 8, 8)), np.eye(4)), path)
        path.write_bytes(path.read_bytes()[:500])
    elif name == "words.nii.gz":
        path.write_bytes(gzip.compress(b"not a volume"))
    elif name == "pickle.npy":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif name == "empty.npy":
        np.save(path, np.zeros((0, 4, 4)))
    elif name == "flat.npy":
        np.save(path, np.zeros(5))
    else:
        path.write_bytes(b"" if "zero" in name else b"some words")
    return path


@pytest.mark.parametrize(
    "name",
    [
        "cut.png",
        "flipped.png",
        "zero.png",
        "words.jpg",
        "cut.nii.gz",
        "words.nii.gz",
        "zero.nii",
        "pickle.npy",
        "words.npy",
        "empty.npy",
        "flat.npy",
        "a.tif",
    ],
)
def test_a_broken_file_is_an_error_with_its_name(tmp_path, name):
    path = broken(tmp_path, name)
    with pytest.raises(SetError, match=name):
        images.read(path, 3 if "nii" in name or name == "empty.npy" else 2)


def test_a_missing_file_is_an_error_with_its_name(tmp_path):
    with pytest.raises(SetError, match=r"a\.png is not there"):
        images.read(tmp_path / "a.png", 2)


def test_a_volume_where_slices_are_asked_for_is_an_error(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((8, 8, 8)))
    with pytest.raises(SetError, match="2 axes"):
        images.read(tmp_path / "a.npy", 2)


def test_colours_become_gray_by_luminance_and_gray_is_repeated():
    red = np.zeros((3, 4, 4), np.float32)
    red[0] = 100
    np.testing.assert_allclose(images.as_planes(red, 1), 29.9, rtol=1e-5)
    white = np.full((3, 4, 4), 7.0)
    np.testing.assert_allclose(images.as_planes(white, 1), 7, rtol=1e-5)
    np.testing.assert_allclose(images.as_planes(images.as_planes(white, 1), 3), white, rtol=1e-5)
    with pytest.raises(SetError, match="3 planes"):
        images.as_planes(white, 2)


@pytest.mark.parametrize("size", [(8, 8), (4, 6, 5)])
def test_an_image_of_the_right_size_is_only_scaled(size):
    array = np.random.default_rng(0).random(size) * 500 + 20
    fitted, spacing = images.fit(record(array), spec(size))
    expected = (array - array.min()) / np.ptp(array) * 2 - 1
    np.testing.assert_allclose(fitted[0], expected, atol=1e-6)
    assert (fitted[1] == -1).all()
    assert spacing is None
    assert fitted.dtype == np.float32


@pytest.mark.parametrize("size", [(32, 32), (9, 15), (100, 40)])
def test_padding_keeps_proportions_and_the_middle(size):
    array = np.zeros((40, 60))
    array[10:30, 20:40] = 1  # a square in the middle
    fitted, _ = images.fit(record(array, array), spec(size))
    rows, columns = ((fitted[1] > 0).any(axis=a).nonzero()[0] for a in (1, 0))
    assert abs(len(rows) - len(columns)) <= 1
    assert abs(rows.mean() - (size[0] - 1) / 2) <= 0.5
    assert abs(columns.mean() - (size[1] - 1) / 2) <= 0.5


def test_padding_is_background_and_stretching_has_none():
    array = np.full((10, 20), 5.0)
    array[:, ::2] = 7
    padded, _ = images.fit(record(array), spec((20, 20)))
    assert (padded[0, [0, 4, 15, 19]] == -1).all()
    assert (padded[0, 5:15].max(axis=1) == 1).all()
    stretched, _ = images.fit(record(array), spec((20, 20), fit="stretch"))
    assert (stretched[0].max(axis=1) == 1).all()


def test_thick_slices_are_not_flattened():
    ball = np.stack(np.meshgrid(np.linspace(-1, 1, 10), np.linspace(-1, 1, 30), np.linspace(-1, 1, 30), indexing="ij"))
    array = (np.square(ball).sum(0) < 0.5).astype(float)
    fitted, spacing = images.fit(record(array, array, spacing_mm=(3.0, 1.0, 1.0)), spec((15, 15, 15)))
    assert spacing == (2.0, 2.0, 2.0)
    extents = [np.ptp(axis) + 1 for axis in (fitted[1] > 0).nonzero()]
    assert max(extents) - min(extents) <= 1


def test_reducing_averages_and_does_not_alias():
    noise = np.random.default_rng(0).normal(size=(96, 96))
    reduced, _ = images.resample(noise, (16, 16), None, "pad", order=1)
    # a mean of 6 x 6 independent values has 1/6; picking or mixing four of them has more than 0.5
    assert reduced.std() < 0.25


def test_images_and_masks_stay_where_they_were_and_in_register():
    rng, places, off = np.random.default_rng(0), np.indices((50, 70)).astype(float), []
    for _ in range(40):
        centre = rng.uniform((18, 18), (32, 52))
        disc = (np.linalg.norm(places - centre.reshape(2, 1, 1), axis=0) < 15).astype(float)
        fitted, _ = images.fit(record(disc, disc), spec((24, 24)))
        found = [[np.average(axis, weights=plane + 1) for axis in np.indices((24, 24))] for plane in fitted]
        off.append(found - ((centre - (24.5, 34.5)) * 24 / 70 + 11.5))
    assert np.abs(off).max() < 0.4  # pixels: a single mask's nearest neighbours may err
    np.testing.assert_allclose(np.mean(off, axis=0), 0, atol=0.05)  # but not to one side


def test_percentiles_cut_outliers_off():
    array = np.linspace(0, 1, 64).reshape(8, 8)
    array[0, 0] = 1e6
    fitted, _ = images.fit(record(array), spec(percentiles=(2, 98)))
    assert np.median(fitted[0]) == pytest.approx(0, abs=0.1)
    assert fitted[0].min() == -1
    assert fitted[0].max() == 1


@pytest.mark.parametrize("size", [(32, 32), (16, 16)])
def test_nan_and_infinity_become_background_and_spoil_nothing_else(size):
    array = np.random.default_rng(0).uniform(0.4, 1, (32, 32))
    array[:8, :8], array[-8:, :8] = 0, 1  # so that both are scaled alike
    spoilt = array.copy()
    spoilt[20, 20], spoilt[21, 20] = np.nan, np.inf
    good, found = (images.fit(record(a), spec(size))[0][0] for a in (array, spoilt))
    assert np.isfinite(found).all()
    changed = np.abs(found - good) > 0.1
    assert changed.any()
    assert changed.sum() <= 4
    assert found[changed].max() < 0


@pytest.mark.parametrize("value", [3.0, np.nan])
def test_an_image_without_any_contrast_is_background(value):
    assert (images.fit(record(np.full((8, 8), value)), spec((6, 6)))[0][0] == -1).all()


def test_a_missing_channel_and_other_axes_are_named():
    with pytest.raises(SetError, match=r"scan\.png has no channel 'm'"):
        images.fit(Record({"a": np.zeros((8, 8))}, "x", "s", file="scan.png"), spec())
    with pytest.raises(SetError, match=r"scan\.png: 'a' has the shape \(8, 8\)"):
        images.fit(record(np.zeros((8, 8))), spec((8, 8, 8)))
    with pytest.raises(SetError, match=r"scan\.png: 'm' has the shape \(4, 4\)"):
        images.fit(record(np.zeros((8, 8)), np.zeros((4, 4))), spec())
