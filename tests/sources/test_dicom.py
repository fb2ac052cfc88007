"""DICOM series: slices in space, values, segmentations, labels, files that are bad, and nothing of the patient in what
comes out.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from fedsynth.data.manifest import SetError
from fedsynth.params import Block, Image, ParamsError
from fedsynth.sources.dicom import DICOM
from fedsynth.stages.ingest import ingest
from tests.dicoms import SECRET, box, draw, make_archive, make_series, uid, voxels
from tests.realdata import real
from tests.sets import tiny_params

ONE = {"kind": "iid", "sites": ["here"]}
THREE, TWO = (8, 8, 8), (8, 8)


def source(folder, asked=None, size=THREE, names=("x",), seed=1, **args):
    return DICOM(
        Image(size=size, channels=asked or {"mr": "image"}, labels=list(names)),
        seed,
        str(folder),
        **{"partition": ONE} | args,
    )


def everything(dicom):
    return [r for site in dicom.sites() for r in dicom.records(site)]


def the_one(*args, **kwargs):
    (record,) = everything(source(*args, **kwargs))
    return record


def test_slices_are_stacked_by_where_they_lie_and_not_by_name_or_number(tmp_path):
    make_series(tmp_path, voxels(0))
    record = the_one(tmp_path)
    assert np.array_equal(record.channels["mr"], voxels(0))
    assert record.spacing_mm == (3.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("turn", "step", "expected"),
    [
        ((-1, 0, 0, 0, -1, 0), (0, 0, 3), lambda a: a[:, ::-1, ::-1]),  # rows to the right, columns to the front
        ((0, 1, 0, 0, 0, -1), (3, 0, 0), lambda a: np.transpose(a, (1, 2, 0))[::-1]),  # sagittal
    ],
)
def test_volumes_are_turned_to_one_direction(tmp_path, turn, step, expected):
    where = {"ImageOrientationPatient": list(turn), "ImagePositionPatient": lambda n: [float(s * n) for s in step]}
    make_series(tmp_path, voxels(0), **where)
    assert np.array_equal(the_one(tmp_path).channels["mr"], expected(voxels(0)))


def test_values_are_rescaled_and_monochrome1_is_inverted(tmp_path):
    make_series(tmp_path / "a", voxels(0), "a", RescaleSlope="2", RescaleIntercept="-1000", RescaleType="HU")
    make_series(tmp_path / "b", voxels(0), "b", PhotometricInterpretation="MONOCHROME1")
    found = {r.channels["mr"].mean() < 1100: r.channels["mr"] for r in everything(source(tmp_path))}
    assert np.array_equal(found[True], 2 * voxels(0).astype(float) - 1000)
    assert np.array_equal(found[False], 65535 - voxels(0).astype(float))


def test_in_two_dimensions_each_slice_or_a_chosen_one_is_an_image(tmp_path):
    make_series(tmp_path, voxels(0))
    every = everything(source(tmp_path, size=TWO))
    assert np.array_equal([r.channels["mr"] for r in every], voxels(0))
    assert {r.spacing_mm for r in every} == {(2.0, 1.0)}
    assert len({r.subject for r in every}) == 1
    for slices, place in (("middle", 3), (1, 1)):
        assert np.array_equal(the_one(tmp_path, size=TWO, slices=slices).channels["mr"], voxels(0)[place])
    assert "has no slice 9, it has 6" in the_one(tmp_path, size=TWO, slices=9).problem


def test_series_are_images_by_their_uid_wherever_their_files_lie(tmp_path):
    first, second = (
        make_series(tmp_path, voxels(0), "a"),
        make_series(tmp_path / "x", voxels(1), "b", PatientID="MRN-2"),
    )
    first[0].rename(tmp_path / "x" / "moved")
    records = everything(source(tmp_path))
    assert len({r.subject for r in records}) == len(records) == 2
    assert sorted(len(r.channels["mr"]) for r in records) == [6, 6]
    assert second


def test_channels_are_series_of_one_study_by_their_description(tmp_path):
    for i, (study, patient) in enumerate((("v", "a"), ("w", "b"))):
        make_series(
            tmp_path / study / "1", voxels(2 * i), f"{study}1", study, PatientID=patient, SeriesDescription="ax T1 tse"
        )
        make_series(
            tmp_path / study / "2", voxels(2 * i + 1), f"{study}2", study, PatientID=patient, SeriesDescription="Ax t2"
        )
    args = {"asked": {"a": "image", "b": "image"}, "channels": {"a": "*t2*", "b": "*t1*"}}
    records = everything(source(tmp_path, **args))
    found = [[int(r.channels[c].sum()) for c in "ab"] for r in records]
    assert sorted(found) == sorted(
        [[int(voxels(1).sum()), int(voxels(0).sum())], [int(voxels(3).sum()), int(voxels(2).sum())]]
    )
    for path in (tmp_path / "w" / "2").iterdir():
        path.unlink()
    assert sorted("has [0, 1] series for the channels" in r.problem for r in everything(source(tmp_path, **args))) == [
        False,
        True,
    ]
    assert len(everything(source(tmp_path, channels={"mr": "*t1*"}))) == 2


def test_a_channel_is_never_filled_with_another_series(tmp_path):
    for i, name in enumerate(("T1 pre", "T1 post")):
        make_series(tmp_path / "a" / str(i), voxels(i), f"a{i}", "a", SeriesDescription=name)
    make_series(tmp_path / "b", voxels(2), "b", "b", SeriesDescription="T2 T1 map")
    records = everything(source(tmp_path, asked={"x": "image", "y": "image"}, channels={"x": "*t1*", "y": "*t2*"}))
    said = sorted(r.problem for r in records)
    assert len(said) == 2
    assert any("has [2, 0] series" in text for text in said)
    assert any("several of the channels" in text for text in said)


@pytest.mark.parametrize("size", [THREE, TWO])
def test_segments_are_masks_by_label_number_or_all(tmp_path, size):
    paths = make_series(tmp_path, voxels(0))
    draw(paths, {"Lesion": box(), "halo": box(depth=5)}, tmp_path / "seg.dcm")
    asked = {"mr": "image", "lesion": "mask", "rim": "mask"}
    for args, expected in (
        (({"rim": "halo"}), [box(), box(depth=5)]),
        ({"lesion": [1, 2], "rim": 1}, [box(depth=5), box()]),
    ):
        records = everything(source(tmp_path, asked, size, masks=args))
        for name, mask in zip(("lesion", "rim"), expected, strict=True):
            assert np.array_equal(np.squeeze([r.channels[name] for r in records]), mask)
    (first, *_) = everything(source(tmp_path, {"mr": "image", "all": "mask"}, size))
    assert np.array_equal(first.channels["all"], box(depth=5) if size == THREE else box()[0])
    (first, *_) = everything(source(tmp_path, asked, size))
    assert "has no segment for 'rim'" in first.warnings[0]
    assert "rim" not in first.channels


def test_the_mask_of_a_series_without_segmentation_is_unknown(tmp_path):
    make_series(tmp_path, voxels(0))
    record = the_one(tmp_path, {"mr": "image", "lesion": "mask"})
    assert list(record.channels) == ["mr"]
    assert not record.problem


def test_the_argument_that_is_gone_says_what_to_write(tmp_path):
    args = {"folder": str(tmp_path), "missing_mask": "empty"}
    with pytest.raises(ParamsError, match=r"image\.unmarked: healthy"):
        Block(class_path="fedsynth.sources.dicom.DICOM", args=args).build(image=None, seed=1)


def test_slices_of_a_volume_are_images(tmp_path):
    array = voxels(0, (6, 20, 24))
    array[:2] = 0
    draw(make_series(tmp_path, array), {"lesion": box()}, tmp_path / "seg.dcm")
    asked = {"mr": "image", "lesion": "mask"}
    records = everything(source(tmp_path, asked, TWO, slices={"every": 2, "least": 0.5}))
    assert np.array_equal([r.channels["mr"] for r in records], array[[2, 4]])
    assert np.array_equal([r.channels["lesion"] for r in records], box()[[2, 4]])
    assert {r.spacing_mm for r in records} == {(2.0, 1.0)}
    across = everything(source(tmp_path, asked, TWO, slices={"axis": 2, "every": 8, "least": 0}))
    assert np.array_equal([r.channels["mr"] for r in across], np.moveaxis(array, 2, 0)[[0, 8, 16]])
    assert {r.spacing_mm for r in across} == {(3.0, 2.0)}
    with pytest.raises(ParamsError, match=r"source\.args\.slices: slices have two axes"):
        source(tmp_path, asked, THREE, slices={"every": 2})


@pytest.mark.parametrize("key", ["patient", "series", "folder", "study"])
def test_labels_come_from_a_table_by_any_of_its_keys(tmp_path, key):
    make_archive(tmp_path, patients=3)
    names = {"patient": "MRN-{}", "folder": "DOE{}", "series": uid("s{}"), "study": uid("v{}")}
    keys = [
        names[key].format(i) if key in ("patient", "folder") else uid(f"{key[0] if key == 'series' else 'v'}{i}")
        for i in range(2)
    ]
    pd.DataFrame({key: keys, "label": ["a", "b"], "site": ["n", "e"]}).to_csv(tmp_path / "labels.csv", index=False)
    dicom = source(tmp_path, names=["a", "b"], table="labels.csv", partition=None)
    found = {(site, r.label): r.problem for site in dicom.sites() for r in dicom.records(site)}
    assert {k for k, problem in found.items() if not problem} == {("n", "a"), ("e", "b")}
    (lost,) = [p for p in found.values() if p]
    assert f"has no row in source.args.table; add one for its {key}" in lost
    with pytest.raises(ParamsError, match=r"give source\.args\.table"):
        everything(source(tmp_path, names=["a", "b"]))


def test_nothing_of_the_patient_is_in_a_record_a_message_or_a_manifest(tmp_path, capsys):
    make_series(tmp_path / "DOE^JANE", voxels(0))
    make_series(tmp_path / "gap", voxels(1), "gap", step=0.0)
    paths = make_series(tmp_path / "cut", voxels(2), "cut", PatientID="MRN-9")
    for path in paths:
        path.write_bytes(path.read_bytes()[:-400])
    (tmp_path / "DOE.dcm").write_bytes(b"DOE")
    make_series(tmp_path / "burnt", voxels(3), "burnt", BurnedInAnnotation="YES")
    dicom = source(tmp_path)
    records = everything(dicom)
    assert sorted(bool(r.problem) for r in records) == [False, True, True, True, True]
    source_ = {"class_path": "fedsynth.sources.dicom.DICOM", "args": {"folder": str(tmp_path), "partition": ONE}}
    asked = tiny_params(
        source=source_, image={"size": [8, 8, 8], "channels": {"mr": "image"}, "labels": ["x"], "empty_labels": []}
    )
    ingest(asked, tmp_path.parent / "sets")
    written = (tmp_path.parent / "sets" / "here" / "manifest.csv").read_text() + "".join(capsys.readouterr())
    told = (
        written
        + "".join(str(v) for r in records for k, v in dataclasses.asdict(r).items() if k != "channels")
        + dicom.fingerprint()
    )
    assert [
        s
        for s in (*SECRET.values(), "DOE", uid("s"), uid("v"), uid("s 0"), "MRN-9")
        if len(str(s)) > 2 and str(s) in told
    ] == []


def test_a_subject_is_the_patient_salted_by_the_seed(tmp_path):
    make_series(tmp_path / "1", voxels(0), "a", "v")
    make_series(tmp_path / "2", voxels(1), "b", "w")
    make_series(tmp_path / "3", voxels(2), "c", "w", PatientID="")
    make_series(tmp_path / "4", voxels(3), "d", "z", PatientID="")
    first = {r.file: r.subject for r in everything(source(tmp_path))}
    assert len(set(first.values())) == 3  # one patient of two series, two studies of nobody
    assert not set(first.values()) & {r.subject for r in everything(source(tmp_path, seed=2))}


def test_the_site_can_tell_which_files_a_name_stands_for(tmp_path):
    paths = make_series(tmp_path, voxels(0))
    (tmp_path / "bad.dcm").write_bytes(b"")
    dicom = source(tmp_path)
    assert {frozenset(dicom.where(r.file)) for r in everything(dicom)} == {
        frozenset(paths),
        frozenset([tmp_path / "bad.dcm"]),
    }
    with pytest.raises(SetError, match="no file is behind 'series-0'"):
        dicom.where("series-0")


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"step": 0.0}, "has 6 slices in each place"),
        (
            {"ImagePositionPatient": lambda n: [0.0, 0.0, float(n + (n > 3))]},
            "slices 1 to 2 mm apart, one up to 0.45 mm off its regular place: one may be missing",
        ),
        (
            {"ImageOrientationPatient": lambda n: [1.0, 0, 0, 0, *((0.8, 0.6) if n > 3 else (1, 0))]},
            "several directions",
        ),
        ({"BurnedInAnnotation": "YES"}, "burned into its pixels"),
        ({"BitsAllocated": 8}, "16 of 8 bits"),
    ],
)
def test_a_series_that_is_no_volume_is_a_problem_that_says_why(tmp_path, tags, said):
    make_series(tmp_path / "bad", voxels(0), "bad", **tags)
    make_series(tmp_path / "good", voxels(1), "good")
    problems = [r.problem for r in everything(source(tmp_path))]
    assert problems.count("") == 1
    (problem,) = [p for p in problems if p]
    assert said in problem
    assert problem.startswith("series-")


def test_what_is_no_image_is_left_alone(tmp_path):
    make_series(tmp_path, voxels(0))
    (tmp_path / "README.txt").write_text("nothing")
    (tmp_path / ".hidden.dcm").write_bytes(b"")
    assert len(everything(source(tmp_path))) == 1
    with pytest.raises(SetError, match="holds no image"):
        everything(source(tmp_path, channels={"mr": "*none*"}))


def test_arguments_that_make_no_sense_are_named(tmp_path):
    for args, said in (
        ({"slices": "first"}, "slices: all, middle"),
        ({"masks": {"m": 1}}, "masks names"),
        ({"slices": True}, "slices: all, middle"),
    ):
        with pytest.raises(ParamsError, match=said):
            source(tmp_path, **args)


def test_a_changed_file_changes_the_fingerprint_and_a_seed_does_not(tmp_path):
    paths = make_series(tmp_path, voxels(0))
    first = source(tmp_path).fingerprint()
    assert source(tmp_path, seed=2).fingerprint() == first
    paths[0].unlink()
    assert source(tmp_path).fingerprint() != first


def test_real_series_of_five_scanners_are_read():
    records = everything(source(real("dicom")))
    assert [r.problem for r in records] == [""] * 6
    assert sorted(r.channels["mr"].size for r in records) == [16384, 230400, 262144, 262144, 737280, 1179648]
    assert sorted(round(max(r.spacing_mm), 2) for r in records) == [1.0, 1.0, 1.04, 1.15, 2.5, 4.0]
    assert len(everything(source(real("dicom"), size=TWO))) == 42


@pytest.mark.parametrize(
    ("tags", "sex", "age"),
    [
        ({}, "F", "50"),  # by the dates of birth and study: 31 January 1970, 29 February 2020
        ({"StudyDate": "20200130"}, "F", "49"),  # a day before the birthday
        ({"PatientAge": "063Y", "PatientSex": "M"}, "M", "063Y"),
        ({"PatientBirthDate": "", "PatientSex": ""}, "", ""),
        ({"StudyDate": "19600101"}, "F", ""),
    ],
)
def test_sex_and_age_are_the_headers(tmp_path, tags, sex, age):
    make_series(tmp_path, voxels(0), **tags)
    record = the_one(tmp_path)
    assert (record.sex, record.age) == (sex, age)


def test_a_table_says_sex_and_age_before_the_header(tmp_path):
    make_series(tmp_path, voxels(0))
    row = {"patient": SECRET["PatientID"], "label": "x", "sex": "other", "age": "81"}
    pd.DataFrame([row]).to_csv(tmp_path / "labels.csv", index=False)
    record = the_one(tmp_path, table="labels.csv")
    assert (record.sex, record.age) == ("other", "81")
