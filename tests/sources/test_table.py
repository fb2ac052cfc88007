"""A folder with a table: sites, partitions, channels, modalities, and everything that can be wrong with files and
tables.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from fedsynth.data.manifest import SetError
from fedsynth.params import Image, ParamsError
from fedsynth.sources.table import Table
from tests.realdata import real
from tests.tables import make_table, write_table

IMAGE = {"size": [16, 16], "channels": {"us": "image", "lesion": "mask"}, "labels": ["a", "b", "c"]}
RGB = {"r": "image", "g": "image", "b": "image"}


def source(folder, channels=None, seed=1, size=(16, 16), **args):
    image = Image(**IMAGE | {"size": size} | ({"channels": channels} if channels else {}))
    return Table(image, seed, str(folder), **args)


def everything(table):
    return {site: list(table.records(site)) for site in table.sites()}


def test_sites_come_from_the_column(tmp_path):
    rows = make_table(tmp_path)
    found = everything(source(tmp_path))
    assert {s: [r.file for r in records] for s, records in found.items()} == rows.groupby("site")["image"].apply(
        list
    ).to_dict()
    assert {r.label for r in found["p"]} == {"a", "b", "c"}
    assert all(not r.problem and r.channels["us"].shape == (20, 24) for r in found["p"])


def test_sites_may_be_picked_and_a_site_without_rows_is_empty(tmp_path):
    make_table(tmp_path)
    table = source(tmp_path, partition={"sites": ["q", "z"]})
    assert table.sites() == ["q", "z"]
    assert len(list(table.records("q"))) == 24
    assert list(table.records("z")) == []


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "quantity"])
def test_a_partition_has_every_image_once_and_no_subject_twice(tmp_path, kind):
    rows = make_table(tmp_path)
    found = everything(source(tmp_path, partition={"kind": kind, "sites": ["x", "y", "z"], "alpha": 1.0}))
    assert list(found) == ["x", "y", "z"]
    assert sorted(r.file for records in found.values() for r in records) == sorted(rows["image"])
    subjects = [{r.subject for r in records} for records in found.values()]
    assert sum(map(len, subjects)) == len(set().union(*subjects)) == 24


def test_the_folder_may_name_an_environment_variable(tmp_path, monkeypatch):
    make_table(tmp_path / "set")
    monkeypatch.setenv("SOME_FOLDER", str(tmp_path))
    assert source("${SOME_FOLDER}/set").sites() == ["p", "q"]
    monkeypatch.delenv("SOME_FOLDER")
    with pytest.raises(SetError, match="SOME_FOLDER"):
        source("${SOME_FOLDER}/set").sites()


def test_labels_may_be_renamed(tmp_path):
    make_table(tmp_path)
    assert {r.label for r in source(tmp_path, labels={"a": "normal"}).records("p")} == {"normal", "b", "c"}


def test_an_empty_mask_cell_means_that_nothing_is_marked(tmp_path):
    make_table(tmp_path)
    for record in source(tmp_path).records("p"):
        assert (record.channels["lesion"].sum() == 0) == (record.label == "a")
        assert record.mask_shape == (None if record.label == "a" else (20, 24))


def test_gray_and_colour_become_the_planes_asked_for(tmp_path):
    rows = make_table(tmp_path, subjects=2, images=1)
    Pillow.fromarray(np.full((20, 24, 3), (255, 0, 0), np.uint8)).save(tmp_path / rows["image"][0])
    (one,) = source(tmp_path).records("p")
    np.testing.assert_allclose(one.channels["us"], 255 * 0.299, rtol=1e-5)
    (red,), (gray,) = everything(source(tmp_path, channels=RGB)).values()
    assert [red.channels[c].max() for c in "rgb"] == [255, 0, 0]
    assert np.array_equal(gray.channels["r"], gray.channels["b"])
    (bad,) = source(tmp_path, channels={"u": "image", "v": "image"}).records("p")
    assert rows["image"][0] in bad.problem


def modalities(folder, **columns):
    rows = make_table(folder, subjects=6, images=1)
    both = pd.concat([rows.assign(modality=m, **{k: f"{v}" for k, v in columns.items()}) for m in ("t2", "t1")])
    paths = [f"images/{i}.npy" for i in range(len(both))]
    for i, path in enumerate(paths):
        np.save(folder / path, np.full((20, 24), float(i)))
    return both.assign(image=paths).reset_index(drop=True)


PAIR = {"t1": "image", "t2": "image", "lesion": "mask"}


def test_modalities_of_a_subject_are_joined_by_the_names_of_the_channels(tmp_path):
    write_table(tmp_path, modalities(tmp_path))
    records = [r for found in everything(source(tmp_path, channels=PAIR)).values() for r in found]
    assert len(records) == 6
    for record in records:
        number = int(record.subject.split()[1])
        assert record.channels["t2"].max() == number
        assert record.channels["t1"].max() == number + 6
        assert record.file == f"images/{number + 6}.npy + images/{number}.npy"
        assert not record.problem


def test_one_channel_takes_the_rows_of_its_modality_alone(tmp_path):
    write_table(tmp_path, modalities(tmp_path))
    found = everything(source(tmp_path, channels={"t1": "image"}))
    assert sorted(r.channels["t1"].max() for records in found.values() for r in records) == [6, 7, 8, 9, 10, 11]


def test_a_subject_without_one_of_the_modalities_is_a_problem(tmp_path):
    write_table(tmp_path, modalities(tmp_path).drop(index=7))
    problems = {r.subject: r.problem for found in everything(source(tmp_path, channels=PAIR)).values() for r in found}
    assert "patient 1" in problems["patient 1"]
    assert "['t2']" in problems["patient 1"]
    assert sum(map(bool, problems.values())) == 1


def test_several_images_of_a_subject_need_a_column_that_pairs_them(tmp_path):
    rows = modalities(tmp_path)
    rows["subject"] = "patient 0"
    write_table(tmp_path, rows)
    with pytest.raises(SetError, match="image_id"):
        source(tmp_path, channels=PAIR).sites()
    write_table(tmp_path, rows.assign(image_id=[i % 6 for i in range(12)]))
    assert sum(map(len, everything(source(tmp_path, channels=PAIR)).values())) == 6


def test_a_channel_without_rows_beside_one_with_rows_is_an_error(tmp_path):
    write_table(tmp_path, modalities(tmp_path))
    with pytest.raises(SetError, match="flair"):
        source(tmp_path, channels={"t1": "image", "flair": "image"}).sites()


def problem_of(folder, rows, **cells):
    """The problem of the first record after changing its row; all others must stay good."""
    for column, value in cells.items():
        rows.loc[0, column] = value
    write_table(folder, rows)
    first, *others = [r for found in everything(source(folder)).values() for r in found]
    assert others
    assert not any(r.problem for r in others)
    return first


def test_a_corrupted_png_is_a_problem_with_its_name(tmp_path):
    rows = make_table(tmp_path)
    path = tmp_path / rows["image"][0]
    path.write_bytes(path.read_bytes()[:60])
    assert path.name in problem_of(tmp_path, rows).problem


def test_a_missing_image_or_mask_is_a_problem_with_its_name(tmp_path):
    rows = make_table(tmp_path)
    assert "gone.png" in problem_of(tmp_path, rows, image="images/gone.png").problem
    assert "lost.png" in problem_of(tmp_path, rows, image=rows["image"][1], mask="masks/lost.png").problem


def test_a_mask_of_another_size_is_a_problem_that_tells_both(tmp_path):
    rows = make_table(tmp_path)
    Pillow.fromarray(np.ones((5, 6), np.uint8)).save(tmp_path / "masks" / "small.png")
    record = problem_of(tmp_path, rows, mask="masks/small.png")
    assert "masks/small.png is (5, 6)" in record.problem
    assert "(20, 24)" in record.problem
    assert record.mask_shape == (5, 6)


def test_a_nan_volume_is_read_as_it_is(tmp_path):
    rows = make_table(tmp_path)
    np.save(tmp_path / "images" / "nan.npy", np.full((20, 24), np.nan))
    record = problem_of(tmp_path, rows, image="images/nan.npy")
    assert np.isnan(record.channels["us"]).all()


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "images/../../secret.png", "/etc/passwd", "..\\secret.png", "C:\\secret.png", "{}/secret.png"],
)
@pytest.mark.parametrize("column", ["image", "mask"])
def test_a_path_out_of_the_folder_is_refused(tmp_path, path, column):
    rows = make_table(tmp_path / "set")
    Pillow.fromarray(np.ones((20, 24), np.uint8)).save(tmp_path / "secret.png")
    record = problem_of(tmp_path / "set", rows, **{column: path.format(tmp_path)})
    assert "leads out" in record.problem


@pytest.mark.parametrize("column", ["image", "mask", "label", "site", "subject", "modality"])
def test_a_missing_column_is_named(tmp_path, column):
    write_table(tmp_path, make_table(tmp_path).drop(columns=column))
    with pytest.raises(SetError, match=column):
        source(tmp_path).sites()


@pytest.mark.parametrize("column", ["image", "site", "subject"])
def test_an_empty_cell_is_named_by_its_line(tmp_path, column):
    rows = make_table(tmp_path)
    rows.loc[3, column] = ""
    write_table(tmp_path, rows)
    with pytest.raises(SetError, match=f"line 5 has no {column}"):
        source(tmp_path).sites()


def test_no_folder_no_rows_and_no_text_are_errors(tmp_path):
    with pytest.raises(SetError, match=r"manifest\.csv is not there"):
        source(tmp_path / "nowhere").sites()
    write_table(tmp_path, make_table(tmp_path)[:0])
    with pytest.raises(SetError, match="no rows"):
        source(tmp_path).sites()
    for content in (b"", b"\xff\xfe\x00\x80" * 9):
        (tmp_path / "manifest.csv").write_bytes(content)
        with pytest.raises(SetError, match=r"manifest\.csv is not a readable CSV"):
            source(tmp_path).sites()


def test_arguments_that_make_no_sense_are_named(tmp_path):
    with pytest.raises(ParamsError, match="alhpa"):
        source(tmp_path, partition={"kind": "iid", "sites": 2, "alhpa": 1})
    with pytest.raises(ParamsError, match="one mask"):
        source(tmp_path, channels={"a": "image", "m": "mask", "n": "mask"})


def test_nifti_brings_its_spacing(tmp_path):
    rows = make_table(tmp_path)
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).random((24, 20, 1)), np.diag([-2.0, -3.0, 4.0, 1.0])),
        tmp_path / "images" / "a.nii.gz",
    )
    record = problem_of(tmp_path, rows, image="images/a.nii.gz")
    assert record.problem == ""
    assert record.spacing_mm == (3.0, 2.0)


def test_real_pairs_of_modalities_are_joined():
    channels = {"FLAIR": "image", "T1c": "image", "tumour": "mask"}
    (records,) = everything(source(real("brats-pairs"), channels=channels, size=[16, 16, 16])).values()
    assert len(records) == 6
    assert all(not r.problem and len({p.shape for p in r.channels.values()}) == 1 for r in records)
    assert all(r.channels["tumour"].sum() > 100 and r.spacing_mm == (2.0, 2.0, 2.0) for r in records)


def test_real_microscopy_of_mixed_colour_and_size_is_read():
    found = everything(source(real("nuclei"), channels={"cells": "image", "nuclei": "mask"}))
    assert {site: len(records) for site, records in found.items()} == {
        "fluo256": 40, "fluo360": 24, "fluo520x696": 20, "he-purple": 20, "he-purple-white": 16,
    }  # fmt: skip
    assert not [r.problem for records in found.values() for r in records if r.problem]


def test_a_changed_added_or_removed_file_changes_the_fingerprint_and_nothing_else_does(tmp_path):
    rows = make_table(tmp_path)
    first = source(tmp_path).fingerprint()
    assert source(tmp_path, seed=2).fingerprint() == first
    path = tmp_path / rows["image"][0]
    kept = path.read_bytes()
    path.write_bytes(kept + b"more")
    changed = source(tmp_path).fingerprint()
    path.unlink()
    gone = source(tmp_path).fingerprint()
    write_table(tmp_path, rows.iloc[1:])
    assert len({first, changed, gone, source(tmp_path).fingerprint()}) == 4


def volume(path):
    """(12, 10, 8) as NIfTI has it (left, back, up): the k-th slice from below is k bright in 49 pixels, so that the
    lowest is empty.
    """
    array = np.zeros((12, 10, 8), np.float32)
    array[2:9, 2:9] = np.arange(8)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1.0, 2.0, 1.0])), path)


def sliced(folder, **slices):
    volume(folder / "a.nii.gz")
    row = {"image": "a.nii.gz", "mask": "a.nii.gz", "label": "a", "site": "p", "subject": "s1", "modality": "us"}
    write_table(folder, pd.DataFrame([row]))
    return list(source(folder, slices=slices).records("p"))


def test_slices_of_a_volume_are_images_of_its_subject(tmp_path):
    records = sliced(tmp_path, every=2)
    assert [float(r.channels["us"].max()) for r in records] == [1, 3, 5, 7]
    assert {r.subject for r in records} == {"s1"}
    assert {(r.channels["us"].shape, r.channels["lesion"].shape, r.mask_shape, r.spacing_mm) for r in records} == {
        ((10, 12), (10, 12), (10, 12), (1.0, 1.0))
    }
    assert all((r.channels["us"] > 0).sum() == (r.channels["lesion"] > 0).sum() == 49 for r in records)


def test_slices_that_show_little_are_left_out(tmp_path):
    assert len(sliced(tmp_path, least=0.4)) == 7  # of 8: the lowest is empty
    assert sliced(tmp_path, least=0.5) == []  # none has half of its pixels lit


def test_a_volume_that_cannot_be_read_is_still_named(tmp_path):
    (tmp_path / "a.nii.gz").write_text("no volume")
    row = {"image": "a.nii.gz", "mask": "", "label": "a", "site": "p", "subject": "s1", "modality": "us"}
    write_table(tmp_path, pd.DataFrame([row]))
    (record,) = source(tmp_path, slices={}).records("p")
    assert "a.nii.gz cannot be read" in record.problem


def test_slices_are_of_two_dimensions_and_their_keys_are_checked(tmp_path):
    with pytest.raises(ParamsError, match="slices have two axes"):
        source(tmp_path, size=(8, 16, 16), slices={})
    with pytest.raises(ParamsError, match="slices ever"):
        source(tmp_path, slices={"ever": 2})


def test_rows_may_be_picked_by_a_column(tmp_path):
    rows = make_table(tmp_path)
    chosen = sorted(set(rows["subject"]))[:2]
    found = everything(source(tmp_path, rows={"subject": chosen}))
    assert {r.subject for records in found.values() for r in records} == set(chosen)
    for wrong, said in (({"patient": ["x"]}, "no column 'patient'"), ({"subject": ["nobody"]}, "no rows with")):
        with pytest.raises(SetError, match=said):
            source(tmp_path, rows=wrong).sites()


def test_the_slices_of_the_pairs_are_dealt_out_so_that_each_site_can_train_and_test(monkeypatch, tmp_path):
    from fedsynth.params import load
    from fedsynth.stages.ingest import ingest
    from fedsynth.stages.sample import given_set

    monkeypatch.setenv("FEDSYNTH_BRATS", str(real("brats-pairs")))
    params = load(Path(__file__).parents[2] / "params.brats.yaml")
    for table in ingest(params, tmp_path / "sites").values():
        assert (table["problem"] == "").all()
        assert set(table["split"]) == {"train", "test"}
    given = given_set(params, ["north", "south"], tmp_path / "given")
    assert set(given.manifest["subject"]) == {"pat0006"}
    assert given.images[:, 0].std() > 0.1
