"""Reading of files: kinds of pictures, NIfTI in one direction and in millimetres, arrays, and files that are broken."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from fedsynth.data import geometry
from fedsynth.data.manifest import SetError
from fedsynth.data.planes import COLOURS, INDEX
from fedsynth.data.reading import read

GRAY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GRAY, GRAY // 2, 255 - GRAY], -1)
VOLUME = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)  # x, y, z
LPS = np.diag([-1.0, -2.0, 3.0, 1.0])  # x to the left, y to the back, z up


@pytest.mark.parametrize("pixels", [GRAY, COLOUR], ids=["gray", "colour"])
@pytest.mark.parametrize("kind", ["png", "tif", "bmp", "PNG"])
def test_pictures_read_back_exactly(tmp_path, pixels, kind):
    Pillow.fromarray(pixels).save(tmp_path / f"a.{kind}")
    planes = read(tmp_path / f"a.{kind}", 2)
    assert np.array_equal(planes.values, np.atleast_3d(pixels).transpose(2, 0, 1))
    assert planes.names == (COLOURS if pixels.ndim == 3 else ("gray",))
    assert planes.grid.spacing_mm is None
    assert planes.range == (0, 255)


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "P", "LA", "RGB", "RGBA", "CMYK", "I", "F"])
def test_every_mode_becomes_gray_or_three_colours_of_its_values(tmp_path, mode):
    name = "a.tif" if mode in ("CMYK", "F", "I") else "a.png"
    Pillow.fromarray(GRAY).convert("I" if mode == "I;16" else mode).convert(mode).save(tmp_path / name)
    planes = read(tmp_path / name, 2)
    assert len(planes.values) == (3 if mode in ("P", "RGB", "RGBA", "CMYK") else 1)
    if mode != "1":
        assert np.abs(planes.values - GRAY).max() <= 1
    assert (planes.range is None) == (mode in ("1", "I;16", "I", "F"))  # what their values mean nobody knows


def test_sixteen_bits_are_kept(tmp_path):
    pixels = GRAY.astype(np.uint16) * 200
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png", 2).values[0], pixels)


def test_transparency_is_no_part_of_an_image_and_is_kept_of_a_mask(tmp_path):
    alpha = np.full((6, 8, 1), 255, np.uint8)
    alpha[2:4] = 0
    Pillow.fromarray(np.concatenate([COLOUR, alpha], -1)).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png", 2).values, COLOUR.transpose(2, 0, 1))
    assert read(tmp_path / "a.png", 2, mask=True).values.shape == (4, 6, 8)


def test_a_palette_is_colours_of_an_image_and_the_index_of_a_mask(tmp_path):
    picture = Pillow.fromarray((GRAY // 100).astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    picture.save(tmp_path / "a.png")
    assert read(tmp_path / "a.png", 2).names == COLOURS
    mask = read(tmp_path / "a.png", 2, mask=True)
    assert mask.names == INDEX
    assert np.array_equal(mask.values[0], GRAY // 100)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_upright_whatever_its_exif_says(tmp_path, orientation):
    seen = np.kron(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20, np.ones((16, 16), np.uint8))
    back = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
            7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    sensed = Pillow.fromarray(seen)
    if orientation > 1:
        sensed = sensed.transpose(Pillow.Transpose[back[orientation]])
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    sensed.save(tmp_path / "a.JPG", format="JPEG", exif=exif, quality=95)
    planes = read(tmp_path / "a.JPG", 2)
    assert np.abs(planes.values[0] - seen).max() < 20
    assert planes.exif == orientation
    assert planes.lossy


def test_several_pictures_in_one_file_are_refused(tmp_path):
    pages = [Pillow.fromarray(GRAY), Pillow.fromarray(GRAY.T)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(SetError, match=r"a\.tif holds 2 pictures"):
        read(tmp_path / "a.tif", 2)


def test_npy_keeps_nan_and_takes_channels_last(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 5, 6), np.nan))
    assert np.isnan(read(tmp_path / "a.npy", 3).values).all()
    np.save(tmp_path / "b.npy", COLOUR)
    planes = read(tmp_path / "b.npy", 2)
    assert planes.shape == (6, 8)
    assert planes.names == ()  # an array does not say that it is a colour picture


@pytest.mark.parametrize("codes", ["RAS", "SRA", "PIR", "LAS", "IPL"])
def test_nifti_comes_in_one_direction_whichever_way_it_was_stored(tmp_path, codes):
    affine = LPS.copy()
    affine[:3, 3] = [11, -7, 5]
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes))
    nib.save(nib.Nifti1Image(VOLUME, affine).as_reoriented(turn), tmp_path / "a.nii.gz")
    planes = read(tmp_path / "a.nii.gz", 3)
    assert np.array_equal(planes.values[0], VOLUME.T)
    assert planes.grid.spacing_mm == (3.0, 2.0, 1.0)
    # the first voxel's place, in DICOM's directions
    assert planes.grid.affine[:, 3].tolist() == [-11, 7, 5]
    assert str(planes.grid).endswith("axes S P L")


def test_an_oblique_volume_keeps_its_place_in_the_patient(tmp_path):
    c, s = np.cos(0.4), np.sin(0.4)
    affine = np.array([[c, -s, 0, 3], [s, c, 0, -4], [0, 0, 1, 5], [0, 0, 0, 1.0]]) @ LPS
    nib.save(nib.Nifti1Image(VOLUME, affine), tmp_path / "a.nii")
    turned = nib.Nifti1Image(VOLUME, affine).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, tmp_path / "b.nii")
    a, b = (read(tmp_path / name, 3) for name in ("a.nii", "b.nii"))
    assert geometry.same(a.grid, b.grid)
    assert np.array_equal(a.values, b.values)
    assert a.grid.spacing_mm == pytest.approx((3, 2, 1))


def patched(path, **at):
    """A NIfTI file with other bytes in its header, as other writers leave it."""
    places = {"codes": 252, "pixdim": 80, "srow": 280}  # of qform's and sform's code, of the voxels' size, of the sform
    raw = bytearray(path.read_bytes())
    for name, values in at.items():
        raw[places[name] : places[name] + values.nbytes] = values.tobytes()
    path.write_bytes(raw)
    return path


def stored(path, affine=LPS, units="mm"):
    volume = nib.Nifti1Image(VOLUME, affine)
    volume.header.set_xyzt_units(units)
    volume.set_qform(affine, 1)
    nib.save(volume, path)
    return path


@pytest.mark.parametrize(("units", "unit"), [("micron", 1e-3), ("meter", 1e3), ("mm", 1), ("unknown", 1)])
def test_microns_and_metres_are_millimetres(tmp_path, units, unit):
    planes = read(stored(tmp_path / "a.nii", np.diag([-500.0, -250, 125, 1]), units), 3)
    assert planes.grid.spacing_mm == pytest.approx((125 * unit, 250 * unit, 500 * unit))


def test_an_sform_of_zeros_is_none_and_the_qform_counts(tmp_path):
    path = patched(stored(tmp_path / "a.nii"), srow=np.zeros(12, np.float32))
    assert nib.load(path).header["sform_code"] == 2
    planes = read(path, 3)
    assert planes.grid.spacing_mm == (3.0, 2.0, 1.0)
    assert np.array_equal(planes.values[0], VOLUME.T)


def test_without_any_form_the_size_of_voxels_still_counts(tmp_path):
    path = patched(stored(tmp_path / "a.nii"), codes=np.zeros(2, np.int16), pixdim=np.float32([0.5, 0.6, 0.7]))
    assert read(path, 3).grid.spacing_mm == pytest.approx((0.7, 0.6, 0.5))


@pytest.mark.parametrize(("shape", "spacing"), [((5, 4, 1), (2.0, 1.0)), ((5, 1, 4), (3.0, 1.0)), ((5, 4), (2.0, 1.0))])
def test_a_slice_in_a_nifti_file_is_an_image(tmp_path, shape, spacing):
    nib.save(nib.Nifti1Image(np.ones(shape, np.float32), np.diag([1.0, 2.0, 3.0, 1.0])), tmp_path / "a.nii.gz")
    planes = read(tmp_path / "a.nii.gz", 2)
    assert planes.values.shape == (1, 4, 5)
    assert planes.grid.spacing_mm == spacing


def test_a_volume_of_three_slices_is_no_picture_of_three_colours(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((3, 20, 24), np.float32), LPS), tmp_path / "a.nii")
    with pytest.raises(SetError, match=r"a\.nii is a volume of 24x20x3 voxels; image\.size asks for 2 axes"):
        read(tmp_path / "a.nii", 2)


def test_a_fourth_axis_is_planes_and_points_in_time_are_told(tmp_path):
    array = np.stack([VOLUME + i for i in range(6)], -1)
    volume = nib.Nifti1Image(array, LPS)
    nib.save(volume, tmp_path / "a.nii")
    planes = read(tmp_path / "a.nii", 3)
    assert planes.values.shape == (6, 6, 5, 4)
    assert np.array_equal(planes.values[2], (VOLUME + 2).T)
    assert not planes.times
    volume.header.set_xyzt_units("mm", "sec")
    nib.save(volume, tmp_path / "a.nii")
    assert read(tmp_path / "a.nii", 3).times


def test_colours_of_nifti_are_named(tmp_path):
    array = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    array["G"] = 9
    nib.save(nib.Nifti1Image(array, LPS), tmp_path / "a.nii")
    planes = read(tmp_path / "a.nii", 3)
    assert planes.names == COLOURS
    assert planes.values.max((1, 2, 3)).tolist() == [0, 9, 0]


def test_a_slope_of_the_header_is_applied(tmp_path):
    volume = nib.Nifti1Image((VOLUME * 100).astype(np.int16), LPS)
    volume.header.set_slope_inter(2, -1000)
    nib.save(volume, tmp_path / "a.nii")
    meant = (VOLUME * 100).astype(np.int16) * 2 - 1000
    assert np.array_equal(read(tmp_path / "a.nii", 3).values[0], meant.T)


def test_names_are_found_in_either_form_of_unicode(tmp_path):
    (tmp_path / "Mu\u0308ller").mkdir()
    Pillow.fromarray(GRAY).save(tmp_path / "Mu\u0308ller" / "a\u0308.png")
    assert read(tmp_path / "M\u00fcller" / "\u00e4.png", 2).shape == (6, 8)
    Pillow.fromarray(GRAY.T).save(tmp_path / "Mu\u0308ller" / "\u00e4.png")
    assert read(tmp_path / "Mu\u0308ller" / "\u00e4.png", 2).shape == (8, 6)  # the very name, where it is there


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
        "a.gif",
    ],
)
def test_a_broken_file_is_an_error_with_its_name(tmp_path, name):
    path = broken(tmp_path, name)
    with pytest.raises(SetError, match=name):
        read(path, 3 if "nii" in name or name == "empty.npy" else 2)


def test_a_missing_file_is_an_error_with_its_name(tmp_path):
    for path in (tmp_path / "a.png", tmp_path / "nowhere" / "a.png"):
        with pytest.raises(SetError, match=r"a\.png is not there"):
            read(path, 2)


def test_a_volume_where_slices_are_asked_for_is_an_error(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((8, 8, 8)))
    with pytest.raises(SetError, match="2 axes"):
        read(tmp_path / "a.npy", 2)


def test_npz_has_its_geometry_as_nifti_has(tmp_path):
    array = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    affine = np.array([[-1.0, 0, 0, 7], [0, 2.0, 0, -3], [0, 0, 3.0, 1], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "a.nii.gz")
    np.savez(tmp_path / "a.npz", image=array, affine=affine)
    a, b = read(tmp_path / "a.nii.gz", 3), read(tmp_path / "a.npz", 3)
    assert np.array_equal(a.values, b.values)
    assert np.allclose(a.grid.affine, b.grid.affine)
    np.savez(tmp_path / "b.npz", volume=array, spacing_mm=[3, 2, 1])
    plain = read(tmp_path / "b.npz", 3)
    assert np.array_equal(plain.values[0], array)
    assert plain.grid.spacing_mm == (3, 2, 1)
    np.savez(tmp_path / "c.npz", array)
    assert read(tmp_path / "c.npz", 3).grid.affine is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": np.ones((2, 2)), "b": np.ones((2, 2))}, "holds the arrays a, b; one is needed"),
        ({"spacing": np.ones(2)}, "holds the arrays none"),
        ({"a": np.ones((4, 4)), "spacing": np.ones(3)}, "spacing must be 2 numbers above 0"),
        ({"a": np.ones((4, 4)), "spacing": np.array([1.0, 0])}, "spacing must be 2 numbers above 0"),
        ({"a": np.ones((4, 4)), "affine": np.eye(3)}, "`affine` must be 4 x 4"),
        ({"a": np.ones((4, 4)), "affine": np.zeros((4, 4))}, "not singular"),
    ],
)
def test_an_npz_whose_array_or_geometry_is_not_clear_is_refused(tmp_path, content, said):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(SetError, match=rf"a\.npz.*{said}"):
        read(tmp_path / "a.npz", 2)
