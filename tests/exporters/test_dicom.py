"""DICOM files as others take them: strictly valid, marked as synthetic, with segmentations that find their image, and
no clock in them.
"""

import shutil
import subprocess

import numpy as np
import pytest

from fedsynth.data.dataset import ImageSet
from fedsynth.exporters.dicom import DICOM
from fedsynth.stages.ingest import ingest
from tests.sets import make_set, tiny_params

NEWER = "(0008,001c)"  # Synthetic Data: in the standard since after dciodvfy's last release for Debian


def exported(folder, size=(16, 16), channels=None, **changes):
    params = tiny_params(image={"size": list(size)} | ({"channels": channels} if channels else {}))
    made = make_set(folder / "set", params, n=3, origin="synthetic", model="vae/abc", seed=7, **changes)
    DICOM().write(made, params.image, folder / "out")
    return params, made


@pytest.fixture(scope="module", params=[(16, 16), (6, 12, 10)], ids=["slices", "volumes"])
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    return (folder / "out", *exported(folder, request.param))


def test_every_header_says_that_no_patient_was_imaged(written):
    import pydicom

    folder, _, images = written
    paths = sorted(folder.rglob("*.dcm"))
    assert len(paths) == 9
    for path in paths:
        file = pydicom.dcmread(path)
        assert (file.SyntheticData, file.PatientIdentityRemoved, file.Manufacturer) == ("YES", "YES", "fedsynth")
        assert file.ImageType[:2] == ["DERIVED", "SECONDARY"] or file.Modality == "SEG"
        assert "synthetic" in str(file.PatientName)
        assert "synthetic, made by vae/abc" in file.SeriesDescription
        assert "synthetic, made by vae/abc" in file.ImageComments
        assert "vae/abc" in file.DeidentificationMethod[1]
        assert file.PatientBirthDate == file.StudyDate == ""
        assert getattr(file, "ConversionType", "SYN") == "SYN"
    assert len({pydicom.dcmread(p).StudyInstanceUID for p in paths}) == len(images)
    assert len({pydicom.dcmread(p).SOPInstanceUID for p in paths}) == len(paths)


def test_real_images_are_not_called_synthetic(tmp_path):
    import pydicom

    params = tiny_params()
    images = make_set(tmp_path / "set", params, n=1)
    DICOM().write(images, params.image, tmp_path / "out")
    file = pydicom.dcmread(next((tmp_path / "out").rglob("t1.dcm")))
    assert "SyntheticData" not in file
    assert "synthetic" not in str(file)
    assert "PatientIdentityRemoved" not in file


def test_values_fill_twelve_bits(written):
    import pydicom

    folder, _, images = written
    for row, array in zip(images.manifest.itertuples(), images.images, strict=True):
        pixels = pydicom.dcmread(folder / row.image_id / "t2.dcm").pixel_array
        np.testing.assert_allclose(pixels / 4095 * 2 - 1, array[1], atol=0.51 * 2 / 4095)


def test_pydicom_and_highdicom_read_them_at_their_strictest(written):
    import highdicom as hd
    import pydicom

    folder, params, images = written
    before = pydicom.config.settings.reading_validation_mode
    pydicom.config.settings.reading_validation_mode = pydicom.config.RAISE
    try:
        for path in folder.rglob("*.dcm"):
            [str(element) for element in pydicom.dcmread(path).iterall()]
    finally:
        pydicom.config.settings.reading_validation_mode = before
    if len(params.image.size) == 3:
        (name, array), *_ = zip(images.manifest["image_id"], images.images, strict=True)
        volume = hd.imread(folder / name / "t1.dcm").get_volume().to_patient_orientation("HPL")
        assert volume.spacing == (1.0, 1.0, 1.0)
        np.testing.assert_allclose(volume.array / 4095 * 2 - 1, array[0], atol=0.51 * 2 / 4095)
        lesion = hd.seg.segread(folder / name / "masks.dcm").get_volume().match_geometry(volume).array[..., 0]
        assert np.array_equal(lesion > 0, array[2] > 0)


def test_dciodvfy_finds_no_error(written):
    tool = shutil.which("dciodvfy")
    if not tool:
        pytest.skip("no dciodvfy on PATH: apt-get install dicom3tools")
    for path in written[0].rglob("*.dcm"):
        said = subprocess.run([tool, "-new", str(path)], capture_output=True, text=True, check=False)
        assert [
            line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error") and NEWER not in line
        ] == []


def test_several_masks_are_segments_and_may_overlap(tmp_path):
    channels = {"t1": "image", "a": "mask", "b": "mask"}
    params = tiny_params(image={"channels": channels})
    made = make_set(tmp_path / "set", params, n=3)
    made.images[:, 2, :8] = -1
    DICOM().write(made, params.image, tmp_path / "out")
    source = DICOM().source(params.image, tmp_path / "out").model_dump()
    ingest(tiny_params(source=source, image=params.image.model_dump()), tmp_path / "again")
    assert np.array_equal(ImageSet.load(tmp_path / "again" / "north").images[:, 1:], made.images[:, 1:])


def test_another_image_has_another_uid_and_no_file_a_time(tmp_path):
    import pydicom

    uids = []
    for name, seed in (("a", 0), ("b", 1)):
        params = tiny_params()
        DICOM().write(make_set(tmp_path / name / "set", params, n=1, seed=seed), params.image, tmp_path / name)
        files = [pydicom.dcmread(p) for p in (tmp_path / name).rglob("*.dcm")]
        uids += [{f.SOPInstanceUID for f in files}]
        assert {str(e.value) for f in files for e in f.iterall() if e.VR in ("DA", "TM", "DT")} <= {
            "",
            "19800101",
            "000000",
        }
    assert not uids[0] & uids[1]


@pytest.mark.parametrize("size", [(16, 16), (6, 12, 10)], ids=["slices", "volumes"])
@pytest.mark.parametrize("spacing", ["", "known"])
def test_the_header_says_what_of_the_geometry_is_nominal(tmp_path, size, spacing):
    import pydicom

    told = "x".join(["2"] * len(size)) if spacing else ""
    exported(tmp_path, size, spacing_mm=told)
    for path in (tmp_path / "out").rglob("*.dcm"):
        comment = pydicom.dcmread(path).ImageComments
        assert ("spacing unknown: 1 mm is nominal" in comment) == (not told)
        assert ("orientation and thickness are nominal" in comment) == (len(size) == 2)


def test_texts_that_dicom_would_split_are_written_plain(tmp_path):
    import pydicom

    params = tiny_params(image={"labels": ["a\\b^c=d", "Müller/β 50%", "x" * 90], "empty_labels": []})
    made = make_set(tmp_path / "set", params, n=3, model="vae/" + "a" * 80)
    DICOM().write(made, params.image, tmp_path / "out")
    files = [pydicom.dcmread(tmp_path / "out" / name / "t1.dcm") for name in made.manifest["image_id"]]
    assert "label a_b_c_d;" in files[0].ImageComments
    assert "label Müller/β 50%;" in files[1].ImageComments
    assert all(len(f.SeriesDescription) <= 64 and len(f.ManufacturerModelName) <= 64 for f in files)
