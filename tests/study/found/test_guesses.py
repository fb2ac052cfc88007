"""What names of files, folders and columns tell, and what they do not."""

from __future__ import annotations

import pandas as pd
import pytest

from fedsynth.study.found import look, pairs, subjects
from fedsynth.study.found.layout import FoundError
from tests import layouts
from tests.study.found import folders


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["patient012_slice3.png", "patient012_slice4.png", "patient7_slice1.png"], ["patient012"] * 2 + ["patient7"]),
        (["a/P-001 (1).png", "b/P-001 (2).png", "b/P-002.png"], ["p001", "p001", "p002"]),
        (["sub-01/ses-1/x.png", "sub-01/ses-2/x.png", "sub-02/ses-1/x.png"], ["sub01", "sub01", "sub02"]),
        (["kidney_slice_1.png", "kidney_slice_2.png", "liver_slice_1.png"], ["kidney", "kidney", "liver"]),
        (["Image_01L.jpg", "Image_01R.jpg", "Image_02L.jpg", "Image_02R.jpg"], ["Image_01"] * 2 + ["Image_02"] * 2),
    ],
    ids=["patient", "letter", "folders", "slices", "sides"],
)
def test_subjects_are_told_by_names(files, expected):
    found, said = subjects.by_name(files)
    assert found == expected
    assert f"{len(set(expected))} are told apart" in said


@pytest.mark.parametrize(
    "files",
    [
        ["normal_261_526_204.png", "normal_261_10_7.png", "target_261_1_2.png"],  # a smear, or a place?
        ["benign/1.png", "malignant/1.png"],
        ["patient1.png", "patient2.png"],
        ["animal.png", "vessel.png", "normal.png", "color.png"],
    ],
    ids=["numbers", "classes", "one each", "words that end like sides"],
)
def test_in_doubt_each_image_is_a_subject(files):
    found, said = subjects.by_name(files)
    assert len(set(found)) == len(files)
    assert not said


def test_masks_are_found_beside_images_and_in_folders_of_their_own():
    files = ["a/images/1.png", "a/masks/1.png", "a/images/2.jpg", "b/3.png", "b/3_mask.png", "b/4.png"]
    assert pairs.of(files).masks == {
        "a/images/1.png": "a/masks/1.png",
        "a/images/2.jpg": "",
        "b/3.png": "b/3_mask.png",
        "b/4.png": "",
    }


def test_several_masks_of_one_image_and_masks_of_none_are_told():
    found = pairs.of(["b/1.png", "b/1_mask.png", "b/1_mask_1.png", "images/2.png", "masks/2.png", "masks/9.png"])
    assert found.masks == {"b/1.png": "b/1_mask.png", "images/2.png": "masks/2.png"}
    assert "1 image with several masks (b/1.png)" in found.notes[0]
    assert "masks/9.png" in found.notes[1]


def test_a_folder_called_labels_with_pictures_alone_is_no_folder_of_masks(tmp_path):
    folders.flat(tmp_path / "labels")
    assert len(look(tmp_path).good) == 24


@pytest.mark.parametrize("depth", ["train/benign", "site-a/benign", "Ulm/benign"])
def test_levels_of_folders_are_splits_sites_and_classes(tmp_path, depth):
    outer = {"train": ("train", "test"), "site-a": ("site-a", "site-b"), "Ulm": ("Ulm", "Jena")}[depth.split("/")[0]]
    for i in range(48):
        folders.picture(tmp_path / outer[i // 24] / ("benign", "malignant")[i % 2] / f"{i}.png", i)
    found = look(tmp_path)
    assert set(found.good["label"]) == {"benign", "malignant"}
    if depth.startswith("train"):
        assert set(found.good["split"]) == {"train", "test"}
        assert not found.layout.sited
    else:
        assert set(found.good["site"]) == set(outer)


def test_more_levels_of_folders_than_can_be_told_are_refused(tmp_path):
    for i in range(16):
        parts = [f"{level}{i >> bit & 1}" for bit, level in enumerate(("x", "y", "z"))]
        folders.picture(tmp_path.joinpath(*parts) / f"{i}.png", i)
    with pytest.raises(FoundError, match=r"3 levels of folders .*x0, x1; y0, y1; z0, z1.*write a manifest.csv"):
        look(tmp_path)


def test_a_folder_for_each_patient_within_classes(tmp_path):
    for i in range(60):
        folders.picture(tmp_path / ("ill", "well")[i // 6 % 2] / f"{i // 6:03d}" / f"{i % 6}.png", i)
    found = look(tmp_path)
    assert set(found.good["label"]) == {"ill", "well"}
    assert found.good["subject"].nunique() == 10


def test_columns_of_other_names_are_told(tmp_path):
    found = look(folders.other_columns(tmp_path))
    assert set(found.good["label"]) == {"Mass", "No Finding"}
    assert found.good["subject"].nunique() == 16
    assert (
        "image is 'Image Index', label is 'Finding Labels', site is 'Hospital', subject is 'Patient ID'" in found.text()
    )


def test_the_csv_itself_may_be_named(tmp_path):
    folders.other_columns(tmp_path)
    assert look(tmp_path / "export.csv").layout.table is not None


def test_rows_without_a_file_are_left_out_and_named(tmp_path):
    folders.other_columns(tmp_path)
    table = pd.read_csv(tmp_path / "export.csv", sep=";", dtype=str)
    table.loc[3, "Image Index"] = "lost.png"
    table.to_csv(tmp_path / "export.csv", index=False)
    found = look(tmp_path)
    assert len(found.good) == 31
    assert "export.csv: line 5 names lost.png" in found.text()


def test_a_table_without_patients_says_so(tmp_path):
    folders.flat(tmp_path)
    files = sorted(path.name for path in tmp_path.glob("*.png"))
    pd.DataFrame({"file": files, "class": ["x", "y"] * 12}).to_csv(tmp_path / "t.csv", index=False)
    assert "no column of t.csv tells patients" in look(tmp_path).text()


def test_modalities_at_the_ends_of_names_are_channels(tmp_path):
    for i in range(10):
        for number, end in enumerate(("flair", "t1ce")):
            layouts.save(
                tmp_path / f"case_{i}" / f"case_{i}_{end}.nii.gz", layouts.volume(10 * i + number, (24, 20, 16))
            )
        layouts.save(tmp_path / f"case_{i}" / f"case_{i}_seg.nii.gz", layouts.marked((1, 2), (24, 20, 16)))
    found = look(tmp_path)
    assert found.layout.channels == {"flair": "image", "t1ce": "image", "mask": "mask"}
    assert found.good["subject"].nunique() == 10
    assert found.layout.axes == 2, "ten volumes are too few for three dimensions"
    assert set(found.good["mask"]) == {"marked"}
