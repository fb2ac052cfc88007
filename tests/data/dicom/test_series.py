"""Which files are images, which are left out by rule, and series that are of several patients."""

import numpy as np
import pandas as pd
import pytest

from fedsynth.data.manifest import SetError
from tests.dicoms import HEAD, at, make_enhanced, make_series, uid, voxels
from tests.sources.test_dicom import THREE, TWO, everything, source, the_one

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CORONAL, SAGITTAL = (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)


def warnings(records):
    return [w for r in records for w in r.warnings]


def turned(turns):
    return {"ImageOrientationPatient": lambda n: list(turns[n]), "SOPInstanceUID": lambda n: uid(f"l{n}")}


@pytest.mark.parametrize("size", [TWO, THREE])
@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localisers (1)"),
        (turned((HEAD, CORONAL, SAGITTAL)), "series of several directions, as localisers are (1)"),
        ({"SOPClassUID": CAPTURE}, "secondary captures (1)"),
        ({"SOPClassUID": CAPTURE + ".4", "ImageType": ["DERIVED", "SECONDARY"]}, "secondary captures (1)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary captures (1)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]}, "dose reports (1)"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67"}, "dose reports (1)"),
    ],
)
def test_what_is_no_image_of_the_patient_is_left_out_and_counted(tmp_path, size, tags, said):
    make_series(tmp_path / "a", voxels(0, (4, 20, 24)), "a")
    make_series(tmp_path / "b", voxels(1, (3, 20, 24)), "b", **tags)
    records = everything(source(tmp_path, size=size))
    assert [r.problem for r in records] == [""] * len(records)
    assert len(records) == (4 if size == TWO else 1)
    assert warnings(records) == [f"of the whole folder were left out: {said}"]


def test_a_scout_within_a_series_is_left_out_of_it(tmp_path):
    kind = {
        "ImageType": lambda n: ["ORIGINAL", "PRIMARY", *["LOCALIZER"] * (n == 0)],
        "ImageOrientationPatient": lambda n: list(CORONAL if n == 0 else HEAD),
    }
    make_series(tmp_path, voxels(0), **kind)
    record = the_one(tmp_path)
    assert np.array_equal(record.channels["mr"], voxels(0)[1:])
    assert "localisers (1)" in record.warnings[0]


def test_secondary_captures_are_images_where_their_study_has_no_others(tmp_path):
    make_series(tmp_path / "a", voxels(0), "a", "v", SOPClassUID=CAPTURE, ImageType=["DERIVED", "SECONDARY"])
    make_series(tmp_path / "b", voxels(1), "b", "w", PatientID="MRN-2")
    records = everything(source(tmp_path))
    assert len(records) == 2
    assert warnings(records) == []


def test_slices_at_a_slight_angle_are_images_in_two_dimensions_and_no_localiser(tmp_path):
    """The stacks of a lumbar spine, one at each disc."""
    make_series(
        tmp_path, voxels(0), ImageOrientationPatient=lambda n: [1, 0, 0, 0, *((0.9, 0.436) if n > 2 else (1, 0))]
    )
    records = everything(source(tmp_path, size=TWO))
    assert len(records) == 6
    assert warnings(records) == []
    assert "in several directions, up to 25.8°" in the_one(tmp_path).problem


def test_three_planes_in_one_file_are_left_out(tmp_path):
    make_series(tmp_path / "a", voxels(0), "a")
    make_enhanced(
        tmp_path / "b.dcm", voxels(1), [at(3.0 * n, (HEAD, CORONAL, SAGITTAL)[n // 2]) for n in range(6)]
    )  # fmt: skip
    assert "series of several directions" in the_one(tmp_path).warnings[0]


def test_a_folder_of_nothing_but_reports_says_what_was_left_out(tmp_path):
    make_series(tmp_path, voxels(0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(SetError, match=r"holds no series of images; left out were localisers \(1\)"):
        everything(source(tmp_path))


def test_copies_of_a_file_count_once(tmp_path):
    paths = make_series(tmp_path, voxels(0))
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "again.dcm").write_bytes(paths[0].read_bytes())
    record = the_one(tmp_path)
    assert np.array_equal(record.channels["mr"], voxels(0))
    assert "copies of files (1)" in record.warnings[0]


def test_a_series_that_is_called_a_localiser_is_kept_and_said(tmp_path):
    make_series(tmp_path, voxels(0), SeriesDescription="Localizer sag")
    (said,) = the_one(tmp_path).warnings
    assert "is called like a localiser" in said
    assert "sag" not in said


@pytest.mark.parametrize("size", [TWO, THREE])
@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"PatientID": lambda n: f"MRN-{n // 3}"}, "holds files of 2 patients under one SeriesInstanceUID"),
        ({"StudyInstanceUID": lambda n: uid(f"v{n // 3}")}, "holds files of 2 studies under one SeriesInstanceUID"),
    ],
)
def test_a_series_of_several_patients_or_studies_is_refused(tmp_path, size, tags, said):
    make_series(tmp_path, voxels(0), **tags)
    records = everything(source(tmp_path, size=size))
    assert all(said in r.problem for r in records)
    assert "MRN" not in str([r.problem for r in records])


@pytest.mark.parametrize(
    ("patients", "more", "doubted"),
    [
        (["ANONYMOUS"] * 4, {}, 4),
        (["7"] * 4, {}, 4),  # all of the folder
        (["ANON", "ANON", "MRN-1", "MRN-2"], {}, 2),
        (["MRN-1", "MRN-1", "MRN-2", "MRN-3"], {}, 0),  # twice at the hospital
        (["MRN-1", "MRN-1", "MRN-2", "MRN-3"], {"PatientBirthDate": "19990101"}, 2),
    ],
)
def test_an_identifier_that_is_hardly_one_patients_is_said(tmp_path, patients, more, doubted):
    for n, patient in enumerate(patients):
        extra = more if n == 1 else {}
        make_series(tmp_path / str(n), voxels(n), f"s{n}", f"v{n}", PatientID=patient, **extra)
    said = warnings(everything(source(tmp_path)))
    assert len(said) == doubted
    assert all("count as one patient" in text and "give source.args.table a column subject" in text for text in said)


def test_the_table_says_whose_images_they_are(tmp_path):
    for n in range(4):
        make_series(tmp_path / str(n), voxels(n), f"s{n}", f"v{n}", PatientID="ANONYMOUS")
    rows = {"study": [uid(f"v{n}") for n in range(4)], "label": "x", "subject": ["p", "p", "q", "r"]}
    pd.DataFrame(rows).to_csv(tmp_path / "labels.csv", index=False)
    records = everything(source(tmp_path, table="labels.csv"))
    assert len({r.subject for r in records}) == 3
    assert warnings(records) == []
    assert not {r.subject for r in records} & {"p", "q", "r"}
