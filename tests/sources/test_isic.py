"""ISIC's pictures: diagnoses and one-hot tables, subjects, colour, masks, and everything that may be missing."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from fedsynth.data.manifest import SetError
from fedsynth.data.planes import LUMINANCE
from fedsynth.params import Block, Image, ParamsError
from fedsynth.sources.isic import ISIC
from tests.layouts import LABELS, make_isic

ONE = {"kind": "iid", "sites": ["here"]}
RGB = dict.fromkeys("rgb", "image")
GRAY = {"image": "luminance", "of": ["rgb"]}


def source(folder, asked=None, names=LABELS, seed=1, **args):
    image = Image(size=(8, 8), channels=asked or {"skin": GRAY, "lesion": "mask"}, labels=list(names))
    return ISIC(image, seed, str(folder), **{"partition": ONE} | args)


def everything(isic):
    return [r for site in isic.sites() for r in isic.records(site)]


def test_a_diagnosis_of_each_picture_and_its_mask(tmp_path):
    make_isic(tmp_path)
    records = everything(source(tmp_path))
    assert [r.label for r in records] == [LABELS[i % 3] for i in range(9)]
    assert [int(r.channels["lesion"].sum()) for r in records] == [72 * (i % 3 > 0) for i in range(9)]
    assert records[1].file == "pictures/ISIC_0000001.jpg"
    assert not any(r.problem for r in records)


def test_colour_is_planes_or_brightness(tmp_path):
    make_isic(tmp_path, pictures=1)
    pixels = np.asarray(Pillow.open(tmp_path / "pictures" / "ISIC_0000000.jpg"), np.float32)
    (planes,), (gray,) = everything(source(tmp_path, RGB)), everything(source(tmp_path))
    assert all(np.array_equal(planes.channels[c], pixels[..., i]) for i, c in enumerate("rgb"))
    np.testing.assert_allclose(gray.channels["skin"], pixels @ LUMINANCE, rtol=1e-5)
    (unsaid,) = everything(source(tmp_path, {"skin": "image"}))
    assert "ISIC_0000000.jpg has no channel 'skin'" in unsaid.problem
    assert "channels: {skin: {image: luminance, of: [rgb]}}" in unsaid.problem


def test_a_one_hot_table_names_the_label_and_labels_rename_or_leave_out(tmp_path):
    hot = {
        "diagnosis": None,
        "MEL": [1.0, 0, 0, 0],
        "NV": [0, 1.0, 0, 0],
        "VASC": [0, 0, 1.0, 0],
        "age": [40, 50, 1, 0],
    }
    make_isic(tmp_path, pictures=4, **hot)
    records = everything(source(tmp_path, labels={"MEL": "melanoma", "VASC": None}))
    assert [(r.subject, r.label) for r in records] == [
        ("ISIC_0000000", "melanoma"),
        ("ISIC_0000001", "NV"),
        ("ISIC_0000003", ""),
    ]
    assert "ISIC_0000003.jpg has no label in metadata.csv" in records[2].problem
    make_isic(tmp_path, pictures=4, **hot | {"MEL": [1, 1, 0, 0]})
    with pytest.raises(SetError, match="ISIC_0000001 has several labels at once; name one column"):
        everything(source(tmp_path))


def test_several_tables_are_joined_by_the_pictures_name(tmp_path):
    table = make_isic(tmp_path, pictures=3)
    (tmp_path / "metadata.csv").unlink()
    table.rename(columns={"isic_id": "image"}).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame(
        {"image_id": table["isic_id"][::-1], "patient_id": ["p2", "p1", "p1"], "site": ["e", "n", "n"]}
    ).to_csv(tmp_path / "b.csv", index=False)
    isic = source(tmp_path, partition=None)
    assert {site: [(r.subject, r.label) for r in isic.records(site)] for site in isic.sites()} == {
        "n": [("p1", LABELS[0]), ("p1", LABELS[1])], "e": [("p2", LABELS[2])],
    }  # fmt: skip


def test_a_later_table_fills_what_an_earlier_one_leaves_empty_and_may_not_contradict_it(tmp_path):
    table = make_isic(tmp_path, pictures=2)
    table.assign(patient_id=["", "p1"]).to_csv(tmp_path / "metadata.csv", index=False)
    other = pd.DataFrame({"image_name": [f"{name}.jpg" for name in table["isic_id"]], "patient_id": ["p0", ""]})
    other.to_csv(tmp_path / "patients.csv", index=False)
    assert [r.subject for r in everything(source(tmp_path))] == ["p0", "p1"]
    other.assign(patient_id="p2").to_csv(tmp_path / "patients.csv", index=False)
    with pytest.raises(SetError, match=r"patients\.csv says patient_id 'p2' of ISIC_0000001, another table says 'p1'"):
        everything(source(tmp_path))


def test_a_column_split_is_the_split(tmp_path):
    make_isic(tmp_path, pictures=3, split=["train", "test", ""])
    assert [r.split for r in everything(source(tmp_path))] == ["train", "test", ""]


def test_pictures_are_left_out_by_a_column_and_at_most_so_many_of_a_class_are_taken(tmp_path):
    make_isic(tmp_path, blurred=["yes", *["no"] * 8])
    assert len(everything(source(tmp_path, exclude={"blurred": [True]}))) == 8
    few = everything(source(tmp_path, at_most=2))
    assert sorted(r.label for r in few) == sorted(2 * LABELS)
    assert not any(r.problem for r in few)


def test_two_files_of_one_name_are_a_problem_that_names_both(tmp_path):
    make_isic(tmp_path, pictures=3)
    (tmp_path / "resized").mkdir()
    for old, new in (("pictures/ISIC_0000000.jpg", "resized/ISIC_0000000.png"),
                     ("truth/ISIC_0000001_segmentation.png", "resized/ISIC_0000001_segmentation.png")):  # fmt: skip
        Pillow.open(tmp_path / old).resize((12, 10)).save(tmp_path / new)
    first, second, third = everything(source(tmp_path))
    assert "pictures/ISIC_0000000.jpg and resized/ISIC_0000000.png have one name" in first.problem
    assert "ISIC_0000001_segmentation.png and truth/ISIC_0000001_segmentation.png have one name" in second.problem
    assert not third.problem


def test_a_subject_is_the_patient_else_the_lesion_else_the_picture(tmp_path):
    make_isic(tmp_path, pictures=3, patient_id=["p", "", ""], lesion_id=["a", "b", ""])
    assert [r.subject for r in everything(source(tmp_path))] == ["p", "b", "ISIC_0000002"]


def test_pictures_without_a_row_and_rows_without_a_picture_are_problems(tmp_path):
    table = make_isic(tmp_path, pictures=4)
    table.iloc[:3].to_csv(tmp_path / "metadata.csv", index=False)
    (tmp_path / "pictures" / "ISIC_0000000.jpg").unlink()
    problems = [r.problem for r in everything(source(tmp_path))]
    assert "ISIC_0000000 is in metadata.csv, but no picture" in problems[0]
    assert problems[1:3] == ["", ""]
    assert "ISIC_0000003.jpg has no label in metadata.csv" in problems[3]


def test_bad_pictures_and_masks_are_one_bad_record_each(tmp_path):
    make_isic(tmp_path, pictures=4)
    (tmp_path / "pictures" / "ISIC_0000000.jpg").write_bytes(b"no picture")
    (tmp_path / "truth" / "ISIC_0000001_segmentation.png").unlink()
    Pillow.fromarray(np.ones((20, 24), np.uint8)).save(tmp_path / "truth" / "ISIC_0000002_segmentation.png")
    records = everything(source(tmp_path))
    assert "ISIC_0000000.jpg cannot be read" in records[0].problem
    assert "ISIC_0000002_segmentation.png marks every pixel" in records[2].problem
    assert [r.problem for r in (records[1], records[3])] == ["", ""]
    assert "lesion" not in records[1].channels  # whether it has one is not known


def test_tables_that_cannot_be_used_are_named(tmp_path):
    table = make_isic(tmp_path, pictures=2)
    with pytest.raises(SetError, match=r"no column 'dx_1' in metadata\.csv"):
        everything(source(tmp_path, label="dx_1"))
    with pytest.raises(SetError, match=r"other\.csv is not there"):
        everything(source(tmp_path, tables=["other.csv"]))
    table.rename(columns={"isic_id": "name"}).to_csv(tmp_path / "metadata.csv", index=False)
    with pytest.raises(SetError, match="has none of the columns isic_id, image, image_id, image_name"):
        everything(source(tmp_path))
    pd.concat([table, table]).to_csv(tmp_path / "metadata.csv", index=False)
    with pytest.raises(SetError, match="line 4 is the second one of ISIC_0000000"):
        everything(source(tmp_path))
    table[["isic_id"]].to_csv(tmp_path / "metadata.csv", index=False)
    with pytest.raises(SetError, match="no column diagnosis or dx, and none of zeros and ones"):
        everything(source(tmp_path))
    (tmp_path / "metadata.csv").unlink()
    with pytest.raises(ParamsError, match="put a CSV with isic_id and diagnosis"):
        everything(source(tmp_path))
    assert [r.label for r in everything(source(tmp_path, names=["x"]))] == ["x", "x"]


def test_arguments_that_make_no_sense_are_named(tmp_path):
    with pytest.raises(ParamsError, match="one mask each"):
        source(tmp_path, {"skin": "image", "a": "mask", "b": "mask"})
    block = Block(class_path="fedsynth.sources.isic.ISIC", args={"folder": str(tmp_path), "missing_mask": "empty"})
    with pytest.raises(ParamsError, match=r"missing_mask is gone: .* image\.unmarked: healthy"):
        block.build(image=Image(size=(8, 8), channels=RGB, labels=["x"]), seed=1)


def test_a_changed_picture_or_table_changes_the_fingerprint(tmp_path):
    table = make_isic(tmp_path, pictures=2)
    seen = [source(tmp_path).fingerprint()]
    (tmp_path / "pictures" / "ISIC_0000000.jpg").write_bytes(b"another")
    seen.append(source(tmp_path).fingerprint())
    table.assign(diagnosis="other").to_csv(tmp_path / "metadata.csv", index=False)
    assert len({*seen, source(tmp_path).fingerprint()}) == 3


@pytest.mark.parametrize("years", ["age", "age_approx"])
def test_sex_and_age_of_a_table_go_with_the_picture(tmp_path, years):
    make_isic(tmp_path, pictures=3, sex=["female", "male", ""], **{years: ["45.0", "80", ""]})
    records = everything(source(tmp_path))
    assert [(r.sex, r.age) for r in records] == [("female", "45.0"), ("male", "80"), ("", "")]


def test_a_table_without_them_says_nothing_of_the_person(tmp_path):
    make_isic(tmp_path, pictures=2)
    assert {(r.sex, r.age) for r in everything(source(tmp_path))} == {("", "")}
