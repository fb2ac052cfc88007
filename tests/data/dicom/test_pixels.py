"""Pixels in the values that the scanner meant, however they are written."""

import struct

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from tests.dicoms import at, make_enhanced, make_series, voxels
from tests.sources.test_dicom import TWO, everything, source, the_one

BIG, DEFLATED, RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
JPEG_LS, JPEG_LOSSLESS = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70"


def values(size=(20, 24), low=0, high=4096, seed=0):
    return np.random.default_rng(seed).integers(low, high, size)


def write(folder, stored, without=(), **tags):
    """A file of one slice with these 16-bit words."""
    words = np.asarray(stored).astype(np.uint16)
    (path,) = make_series(folder, words[None], without=without, **tags)
    return path


def test_signed_values_in_twelve_bits_keep_their_sign_where_the_other_bits_are_zero(tmp_path):
    wanted = values(low=-2048, high=2048)
    write(tmp_path, wanted & 0xFFF, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert np.array_equal(the_one(tmp_path, size=TWO).channels["mr"], wanted)


def test_overlays_in_the_high_bits_are_no_part_of_the_values(tmp_path):
    wanted = values()
    write(tmp_path, wanted | (values(high=2, seed=1) << 14), BitsStored=12, HighBit=11)
    assert np.array_equal(the_one(tmp_path, size=TWO).channels["mr"], wanted)


def test_values_that_lie_in_the_upper_bits_are_taken_from_there(tmp_path):
    wanted = values()
    write(tmp_path, wanted << 4 | values(high=16, seed=1), BitsStored=12, HighBit=15)
    assert np.array_equal(the_one(tmp_path, size=TWO).channels["mr"], wanted)


@pytest.mark.parametrize("syntax", [BIG, DEFLATED, RLE, JPEG_LS])
def test_transfer_syntaxes_give_the_same_values(tmp_path, syntax):
    wanted = values()
    path = write(tmp_path, wanted, BitsStored=12, HighBit=11)
    file = pydicom.dcmread(path)
    if syntax in (RLE, JPEG_LS):
        file.compress(syntax)
    elif syntax == BIG:
        file.PixelData, file.file_meta.TransferSyntaxUID = wanted.astype(">u2").tobytes(), syntax
        file["PixelData"].VR = "OW"
        assert list(file.iterall())  # parsed, so that it is written anew
        file.set_original_encoding(False, False)
        file.save_as(path)
    else:
        file.file_meta.TransferSyntaxUID = syntax
    if syntax != BIG:
        file.save_as(path)
    assert np.array_equal(the_one(tmp_path, size=TWO).channels["mr"], wanted)


def huffman_of_differences(image, bits):
    """An image (H, W) as JPEG Lossless (ITU-T T.81, process 14, first-order prediction), with one code of 5 bits for
    each size of a difference.
    """
    rows, columns = image.shape
    body = ""
    for row in range(rows):
        for column in range(columns):
            before = image[row, column - 1] if column else image[row - 1, 0] if row else 1 << (bits - 1)
            difference = int(image[row, column]) - int(before)
            size = abs(difference).bit_length()
            code = difference if difference > 0 else difference + (1 << size) - 1
            body += f"{size:05b}" + (f"{code:0{size}b}" if size else "")
    body += "1" * (-len(body) % 8)
    packed = int(body, 2).to_bytes(len(body) // 8, "big").replace(b"\xff", b"\xff\x00")
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    frame = struct.pack(">BHHB3B", bits, rows, columns, 1, 1, 0x11, 0)
    scan = bytes([1, 1, 0, 1, 0, 0])
    return b"".join(
        [b"\xff\xd8"]
        + [marker + struct.pack(">H", len(part) + 2) + part
           for marker, part in ((b"\xff\xc3", frame), (b"\xff\xc4", table), (b"\xff\xda", scan))]
        + [packed, b"\xff\xd9"]
    )  # fmt: skip


def test_jpeg_lossless_is_read(tmp_path):
    from pydicom.encaps import encapsulate

    wanted = values()
    path = write(tmp_path, wanted, BitsStored=12, HighBit=11)
    file = pydicom.dcmread(path)
    file.PixelData = encapsulate([huffman_of_differences(wanted, 12)])
    file.file_meta.TransferSyntaxUID = JPEG_LOSSLESS
    file["PixelData"].is_undefined_length = True
    file.save_as(path)
    assert np.array_equal(the_one(tmp_path, size=TWO).channels["mr"], wanted)


def test_jpeg_of_twelve_bits_is_read(tmp_path):
    file = pydicom.dcmread(get_testdata_file("JPGExtended.dcm"))
    file.save_as(tmp_path / "a.dcm")
    plane = the_one(tmp_path, size=TWO).channels["mr"]
    assert plane.shape == (1024, 256)
    assert (plane[420, 140], plane[230, 120]) == (244, 95)  # as pydicom's own tests have it of this file


def test_files_without_preamble_and_without_an_ending_are_dicom(tmp_path):
    for name, implicit in (("IM_0001", False), ("IM_0002", True)):
        path = write(tmp_path, values(), series=name, PatientID=name, BitsStored=12, HighBit=11)
        file = pydicom.dcmread(path)
        bare = Dataset()
        bare.update(file)
        path.unlink()
        bare.save_as(tmp_path / name, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    (tmp_path / "notes").write_bytes(b"\x08\x00" + b"no DICOM" * 40)
    records = everything(source(tmp_path, size=TWO))
    assert [r.problem for r in records] == ["", ""]
    assert all(np.array_equal(r.channels["mr"], values()) for r in records)


@pytest.mark.parametrize("two", [True, False])
def test_monochrome1_is_inverted_about_one_value_though_slopes_differ(tmp_path, two):
    stored, slopes = values((3, 20, 24), high=4096), [1.0, 2.0, 0.5]
    make_series(
        tmp_path, stored, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1", flip=False,
        RescaleSlope=lambda n: str(slopes[n]), RescaleIntercept="0",
    )  # fmt: skip
    wanted = 4095 * 2.0 - stored * np.array(slopes)[:, None, None]
    records = everything(source(tmp_path, size=TWO)) if two else [the_one(tmp_path)]
    assert np.allclose(np.squeeze([r.channels["mr"] for r in records]), wanted)


def test_padding_around_the_body_is_no_value_and_the_same_value_within_is_one(tmp_path):
    stored = values(low=24, high=3000)
    stored[:4], stored[10, 10] = 63536, 63536
    write(tmp_path, stored, PixelPaddingValue=63536, RescaleSlope="1", RescaleIntercept="-1024", Modality="CT")
    record = the_one(tmp_path, size=TWO)
    plane = record.channels["mr"]
    assert np.isnan(plane[:4]).all()
    assert np.isfinite(plane[4:]).all()
    assert plane[10, 10] == 63536 - 1024
    assert record.ranges == {"mr": (-1000.0, 1000.0)}


def test_padding_is_a_range_and_may_be_written_with_the_other_sign(tmp_path):
    stored = values(low=-1000, high=1000)
    stored[0, :2], stored[-1] = (-2000, -1990), -1995
    path = write(tmp_path, stored, PixelRepresentation=1)
    file = pydicom.dcmread(path)
    file.add_new("PixelPaddingValue", "US", 65536 - 2000)
    file.add_new("PixelPaddingRangeLimit", "US", 65536 - 1990)
    file.save_as(path)
    plane = the_one(tmp_path, size=TWO).channels["mr"]
    assert np.array_equal(np.isnan(plane), (stored <= -1990) & (stored >= -2000))


def test_a_table_of_the_modality_is_applied(tmp_path):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], np.arange(0, 25600, 100).astype("<u2").tobytes()
    table.ModalityLUTType = "US"
    stored = values(high=256)
    write(tmp_path / "a", stored, BitsStored=8, HighBit=7, ModalityLUTSequence=[table])
    assert np.array_equal(the_one(tmp_path / "a", size=TWO).channels["mr"], stored * 100)


def test_frames_of_one_file_have_a_slope_each(tmp_path):
    array, slopes = voxels(0, (3, 20, 24)), [1.0, 3.0, 0.25]
    groups = [
        at(3.0 * n, PixelValueTransformationSequence={"RescaleSlope": str(s), "RescaleIntercept": "7"})
        for n, s in enumerate(slopes)
    ]
    make_enhanced(tmp_path / "a.dcm", array, groups)
    wanted = array * np.array(slopes)[:, None, None] + 7
    assert np.allclose(the_one(tmp_path).channels["mr"], wanted)
    assert np.allclose([r.channels["mr"] for r in everything(source(tmp_path, size=TWO))], wanted)


@pytest.mark.parametrize(
    ("tags", "range_"),
    [
        ({"Modality": "CT", "RescaleIntercept": "-1024", "RescaleSlope": "1"}, (-1000.0, 1000.0)),
        ({"Modality": "CT"}, None),  # no Hounsfield units: nothing says what they are of
        ({"Modality": "CT", "RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "US"}, None),
        ({"Modality": "MR", "BitsStored": 8, "HighBit": 7}, None),
        ({"Modality": "US", "BitsStored": 8, "HighBit": 7}, (0.0, 255.0)),
    ],
)
def test_the_range_of_values_is_that_of_the_modality(tmp_path, tags, range_):
    write(tmp_path, values(high=256), **tags)
    assert the_one(tmp_path, size=TWO).ranges.get("mr") == range_


def test_slices_share_the_limits_of_their_series(tmp_path):
    array = voxels(0)
    array[2] //= 100
    make_series(tmp_path, array)
    records = everything(source(tmp_path, size=TWO))
    assert len({id(r.volume) for r in records}) == 1
    assert records[2].volume.limits("mr", (0, 100)) == (array.min(), array.max())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: setattr(f, "PixelData", f.PixelData[:-200]), "breaks off: it has 760 of 960 bytes"),
        (lambda f: delattr(f, "PixelData"), "holds no pixels"),
        (lambda f: setattr(f, "BitsAllocated", 8), "16 of 8 bits"),
        (lambda f: setattr(f.file_meta, "TransferSyntaxUID", "1.2.3.4.5"), "unknown transfer syntax"),
    ],
)
def test_what_cannot_be_decoded_says_why(tmp_path, change, said):
    path = write(tmp_path, values())
    file = pydicom.dcmread(path)
    change(file)
    file.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    problem = the_one(tmp_path, size=TWO).problem
    assert said in problem
    assert "damaged" not in problem


def test_damaged_pixels_of_a_compressed_file_are_called_that(tmp_path):
    path = write(tmp_path, values(), BitsStored=12, HighBit=11)
    file = pydicom.dcmread(path)
    file.compress(JPEG_LS)
    file.PixelData = file.PixelData[:40] + bytes(len(file.PixelData) - 40)
    file.save_as(path)
    assert "that no decoder takes: they may be damaged" in the_one(tmp_path, size=TWO).problem
