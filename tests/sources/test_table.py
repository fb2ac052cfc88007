"""A folder with a table: sites, partitions, channels, modalities, and everything that can be wrong with files and
tables.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from fedsynth.data.images import fit
from fedsynth.data.manifest import SetError
from fedsynth.errors import UserError
from fedsynth.params import Block, Image, ParamsError
from fedsynth.sources.table import Table
from fedsynth.stages.ingest import ingest
from tests.realdata import real
from tests.sets import tiny_params
from tests.tables import make_table, write_table

IMAGE = {"size": [16, 16], "channels": {"us": "image", "lesion": "mask"}, "labels": ["a", "b", "c"]}
RGB = {"r": "image", "g": "image", "b": "image"}


def source(folder, channels=None, seed=1, size=(16, 16), may_lack=(), **args):
    image = Image(**IMAGE | {"size": size, "may_lack": may_lack} | ({"channels": channels} if channels else {}))
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


def test_an_empty_mask_cell_is_a_mask_that_is_not_known(tmp_path):
    make_table(tmp_path)
    for record in source(tmp_path).records("p"):
        assert ("lesion" in record.channels) == (record.label != "a")
        assert record.mask_shape == (None if record.label == "a" else (20, 24))
        assert not record.problem


@pytest.mark.parametrize(
    ("changes", "lacks", "area"),
    [
        ({}, "lesion", 0),  # unknown
        ({"empty_labels": ["a"]}, "", 0),  # nothing is marked
        ({"unmarked": "healthy"}, "", 0),
    ],
)
def test_params_say_what_a_mask_that_is_not_there_means(tmp_path, changes, lacks, area):
    rows = make_table(tmp_path, subjects=6, images=1)
    assert (rows["mask"] == "").sum() == 2
    block = {"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(tmp_path)}}
    params = tiny_params(source=block, image=IMAGE | {"empty_labels": []} | changes)
    table = pd.concat(ingest(params, tmp_path / "sets").values())
    assert (table["problem"] == "").all()
    assert set(table.loc[table["label"] == "a", "lacks"]) == {lacks}
    assert set(table.loc[table["label"] == "a", "mask_area"]) == {area}
    assert (table.loc[table["label"] != "a", "mask_area"] > 0).all()


BRIGHTNESS = {"us": {"image": "luminance", "of": ["rgb"]}}


def test_colour_is_refused_for_one_channel_unless_params_say_how(tmp_path):
    rows = make_table(tmp_path, subjects=2, images=1)
    Pillow.fromarray(np.full((20, 24, 3), (255, 0, 0), np.uint8)).save(tmp_path / rows["image"][0])
    (one,) = source(tmp_path, channels={"us": "image"}).records("p")
    assert f"{rows['image'][0]} has no channel 'us', it has 'red', 'green', 'blue'" in one.problem
    assert "channels: {us: {image: luminance, of: [rgb]}}" in one.problem
    (one,), (gray,) = everything(source(tmp_path, channels=BRIGHTNESS)).values()
    np.testing.assert_allclose(one.channels["us"], 255 * 0.299, rtol=1e-5)
    pixels = np.asarray(Pillow.open(tmp_path / rows["image"][1]))
    assert np.array_equal(gray.channels["us"], pixels)  # a gray picture beside it is what it is


def test_gray_is_not_copied_into_colours_unless_params_say_so(tmp_path):
    rows = make_table(tmp_path, subjects=2, images=1)
    Pillow.fromarray(np.full((20, 24, 3), (255, 0, 0), np.uint8)).save(tmp_path / rows["image"][0])
    (red,), (gray,) = everything(source(tmp_path, channels=RGB)).values()
    assert [red.channels[c].max() for c in "rgb"] == [255, 0, 0]
    assert f"{rows['image'][1]} has no channel 'r', it has 'gray'; for copies" in gray.problem
    copies = {c: {"image": "copy", "of": ["gray"]} for c in "rgb"}
    (red,), (gray,) = everything(source(tmp_path, channels=copies)).values()
    assert [red.channels[c].max() for c in "rgb"] == [255, 0, 0]
    assert np.array_equal(gray.channels["r"], gray.channels["b"])
    assert not gray.problem


def test_a_picture_is_not_several_modalities(tmp_path):
    rows = make_table(tmp_path, subjects=2, images=1)
    Pillow.fromarray(np.full((20, 24, 3), (255, 0, 0), np.uint8)).save(tmp_path / rows["image"][0])
    colour, gray = (one for (one,) in everything(source(tmp_path, channels={"t1": "image", "t2": "image"})).values())
    assert "has no channel 't1', it has 'red', 'green', 'blue'" in colour.problem
    assert "has no channel 't1', it has 'gray'" in gray.problem


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
    assert "patient 1 has ['t2'], image.channels asks for ['t1']" in problems["patient 1"]
    assert sum(map(bool, problems.values())) == 1


@pytest.mark.parametrize("names", [("T1", "T2"), ("t-1", "T_2"), (" t1", "t2 ")])
def test_modalities_are_matched_by_name_whatever_their_case(tmp_path, names):
    rows = modalities(tmp_path)
    write_table(tmp_path, rows.assign(modality=rows["modality"].map(dict(zip(("t1", "t2"), names, strict=True)))))
    records = [r for found in everything(source(tmp_path, channels=PAIR)).values() for r in found]
    assert len(records) == 6
    assert all(r.channels["t1"].max() == r.channels["t2"].max() + 6 for r in records)


def test_modalities_that_are_none_of_several_channels_are_refused(tmp_path):
    write_table(tmp_path, modalities(tmp_path))
    with pytest.raises(SetError, match="has the modalities t2, t1, and none of the channels ct, pet"):
        source(tmp_path, channels={"ct": "image", "pet": "image"}).sites()


def test_rows_of_other_modalities_are_left_out(tmp_path):
    rows = modalities(tmp_path)
    flair = rows[rows["modality"] == "t1"].assign(modality="FLAIR", image=rows["image"] + "x")
    write_table(tmp_path, pd.concat([rows, flair]))
    assert sum(map(len, everything(source(tmp_path, channels=PAIR)).values())) == 6


def test_a_modality_that_some_lack_is_no_problem_where_params_say_so(tmp_path):
    rows = modalities(tmp_path)
    write_table(tmp_path, rows.drop(index=[7]))  # t1 of patient 1
    records = {r.subject: r for found in everything(source(tmp_path, PAIR, may_lack=["t1"])).values() for r in found}
    assert not any(r.problem for r in records.values())
    assert "t1" not in records["patient 1"].channels
    write_table(tmp_path, rows[rows["modality"] == "t2"])  # nobody has it here
    assert sum(map(len, everything(source(tmp_path, PAIR, may_lack=["t1"])).values())) == 6
    with pytest.raises(SetError, match="no row of modality 't1'"):
        source(tmp_path, PAIR).sites()


def test_a_file_in_two_rows_is_refused_with_both_lines(tmp_path):
    rows = modalities(tmp_path)
    write_table(tmp_path, rows.assign(image=[*rows["image"][:-1], "./" + rows["image"][0]]))
    with pytest.raises(SetError, match=r"lines 2 and 13 are both of images/0\.npy"):
        source(tmp_path, channels=PAIR).sites()


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
    again = tmp_path / "images" / "again.png"
    again.write_bytes((tmp_path / rows["image"][1]).read_bytes())
    assert "lost.png" in problem_of(tmp_path, rows, image="images/again.png", mask="masks/lost.png").problem


def test_a_mask_of_another_size_is_a_problem_that_tells_both(tmp_path):
    rows = make_table(tmp_path)
    small = np.zeros((5, 6), np.uint8)
    small[2, 2] = 1
    Pillow.fromarray(small).save(tmp_path / "masks" / "small.png")
    record = problem_of(tmp_path, rows, mask="masks/small.png")
    assert record.mask_shape == (5, 6)
    with pytest.raises(SetError, match=r"'lesion' lies on another grid than 'us'.* 5x6 voxels at .* us: 20x24 voxels"):
        fit(record, Image(**IMAGE))


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
    with pytest.raises(SetError, match=rf"manifest\.csv lacks the columns \['{column}'\]"):
        source(tmp_path).sites()


def test_a_column_that_nobody_asks_for_may_lack(tmp_path):
    write_table(tmp_path, make_table(tmp_path).drop(columns=["mask", "site"]))
    table = source(tmp_path, channels={"us": "image"}, partition={"kind": "iid", "sites": 2})
    assert sum(map(len, everything(table).values())) == 48


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
    for content, said in ((b"", "is empty"), (b"\n\n", "is empty"), (b"\xff\xfe\x00\x80" * 9, "is UTF-16")):
        (tmp_path / "manifest.csv").write_bytes(content)
        with pytest.raises(SetError, match=rf"manifest\.csv .*{said}"):
            source(tmp_path).sites()


def test_arguments_that_make_no_sense_are_named(tmp_path):
    with pytest.raises(ParamsError, match="alhpa"):
        source(tmp_path, partition={"kind": "iid", "sites": 2, "alhpa": 1})
    with pytest.raises(ParamsError, match=r"source\.args\.masks names \['wound'\]"):
        source(tmp_path, masks={"wound": 1})
    for values in ("one", 1.5, [True], None):
        with pytest.raises(ParamsError, match=r"source\.args\.masks\.lesion: values are whole numbers"):
            source(tmp_path, masks={"lesion": values})
    for n in (0, "5", True):
        with pytest.raises(ParamsError, match=r"source\.args\.at_most"):
            source(tmp_path, at_most=n)


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
    cells = {"image": "luminance", "of": ["rgb"]}
    found = everything(source(real("nuclei"), channels={"cells": cells, "nuclei": "mask"}))
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
    (none,) = sliced(tmp_path, least=0.5)
    assert "none of its 8 slices shows anything in 50% of it" in none.problem


def test_a_volume_that_cannot_be_read_is_still_named(tmp_path):
    (tmp_path / "a.nii.gz").write_text("no volume")
    row = {"image": "a.nii.gz", "mask": "", "label": "a", "site": "p", "subject": "s1", "modality": "us"}
    write_table(tmp_path, pd.DataFrame([row]))
    (record,) = source(tmp_path, slices={}).records("p")
    assert "a.nii.gz cannot be read" in record.problem


def test_slices_are_of_two_dimensions_and_their_keys_are_checked(tmp_path):
    with pytest.raises(ParamsError, match="slices have two axes"):
        source(tmp_path, size=(8, 16, 16), slices={})
    with pytest.raises(ParamsError, match=r"slices\.ever"):
        source(tmp_path, slices={"ever": 2})


def test_rows_may_be_picked_by_a_column(tmp_path):
    rows = make_table(tmp_path)
    chosen = sorted(set(rows["subject"]))[:2]
    found = everything(source(tmp_path, rows={"subject": chosen}))
    assert {r.subject for records in found.values() for r in records} == set(chosen)
    for wrong, said in (({"patient": ["x"]}, "no column 'patient'"), ({"subject": ["nobody"]}, "no rows left with")):
        with pytest.raises(SetError, match=said):
            source(tmp_path, rows=wrong).sites()


def test_rows_are_left_out_by_a_column_and_numbers_are_alike_in_text(tmp_path):
    rows = make_table(tmp_path).assign(quality=["1", "2.0", "03"] * 16)
    write_table(tmp_path, rows)
    kept = [r for found in everything(source(tmp_path, exclude={"quality": [2, "03"]})).values() for r in found]
    assert len(kept) == 16
    picked = [r for found in everything(source(tmp_path, rows={"quality": 1})).values() for r in found]
    assert {r.file for r in picked} == {r.file for r in kept}
    for wrong, said in (({"qualty": [1]}, "exclude names.*'quality'"), ({"quality": [1, 2, 3]}, "no rows left with")):
        with pytest.raises(SetError, match=said):
            source(tmp_path, exclude=wrong).sites()


def test_at_most_so_many_images_of_each_class_at_each_site_are_taken(tmp_path):
    make_table(tmp_path)

    def taken(n, seed=1):
        found = everything(source(tmp_path, None, seed, at_most=n))
        return {site: [(r.label, r.file) for r in records] for site, records in found.items()}

    for found in taken(3).values():
        assert sorted(label for label, _ in found) == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert taken(3) == taken(3) != taken(3, seed=2)
    assert set(taken(2)["p"]) < set(taken(3)["p"]) < set(taken(4)["p"])  # a larger trial adds to a smaller one
    assert sum(map(len, taken(100).values())) == 48


def test_at_most_counts_an_image_of_several_modalities_once(tmp_path):
    write_table(tmp_path, modalities(tmp_path))
    records = [r for found in everything(source(tmp_path, PAIR, at_most=1)).values() for r in found]
    assert [len(r.channels) for r in records if r.label != "a"] == [3] * 4
    assert len(records) == 6  # one of each class at each of two sites


def test_a_split_is_read_and_an_empty_cell_leaves_it_to_ingest(tmp_path):
    rows = make_table(tmp_path, subjects=6, images=1)
    rows["split"] = ["train", "Validation", "TEST", "Training", "testing", ""]
    write_table(tmp_path, rows)
    found = {r.subject: r.split for records in everything(source(tmp_path)).values() for r in records}
    assert [found[s] for s in rows["subject"]] == ["train", "val", "test", "train", "test", ""]
    rows.loc[4, "split"] = "tset"
    write_table(tmp_path, rows)
    with pytest.raises(SetError, match="line 6 has the split 'tset'; known are train, val, test"):
        source(tmp_path).sites()


def test_labels_of_numbers_are_renamed_by_numbers_or_text(tmp_path):
    rows = make_table(tmp_path)
    write_table(tmp_path, rows.assign(label=rows["label"].map({"a": "0", "b": "1", "c": "2"})))
    for labels in ({0: "a", 1: "b", 2: "c"}, {"0": "a", "1": "b", "2": "c"}, {"00": "a", "1.0": "b", 2: "c"}):
        assert {r.label for r in source(tmp_path, labels=labels).records("p")} == {"a", "b", "c"}
    assert {r.label for r in source(tmp_path, labels={0: None, 1: "b"}).records("p")} == {"b", "2"}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"A": "b"}, r"source\.args\.labels\.A: no image has this label; there are 'a', 'b', 'c'; did you mean 'a'"),
        ({True: "b"}, "put the name in quotes"),
        ({"a": False}, "without quotes as false; put the name in quotes"),
    ],
)
def test_a_label_that_a_row_has_in_other_letters_is_an_error_that_names_those_that_are_there(tmp_path, labels, said):
    make_table(tmp_path)
    with pytest.raises(UserError, match=said):
        source(tmp_path, labels=labels).sites()


def test_a_class_that_one_hospital_lacks_is_told_and_stops_nothing(tmp_path, capsys):
    make_table(tmp_path)
    assert source(tmp_path, labels={"lump": "b"}).sites() == ["p", "q"]
    said = "warning: source.args.labels.lump: no image has this label; there are 'a', 'b', 'c'"
    assert said in capsys.readouterr().out


def test_yes_and_no_of_yaml_are_the_words_of_the_table(tmp_path):
    rows = make_table(tmp_path)
    write_table(tmp_path, rows.assign(label=rows["label"].map({"a": "no", "b": "Yes", "c": "c"})))
    assert {r.label for r in source(tmp_path, labels={True: "b", False: "a"}).records("p")} == {"a", "b", "c"}


def test_names_in_either_form_of_unicode_are_one(tmp_path):
    rows, decomposed = make_table(tmp_path), "Mu\u0308ller"
    old, new = tmp_path / rows["image"][0], tmp_path / "images" / f"{decomposed}.png"
    old.rename(new)  # as macOS and its archives write names
    rows.loc[0, "image"] = "images/M\u00fcller.png"
    rows["subject"] = ["M\u00fcller", decomposed, *rows["subject"][2:]]
    rows["label"] = ["b\u00f6se", "bo\u0308se", *rows["label"][2:]]
    write_table(tmp_path, rows)
    first, second, *_ = source(tmp_path, labels={"bo\u0308se": "a"}).records("p")
    assert not first.problem
    assert first.subject == second.subject == "M\u00fcller"
    assert first.label == second.label == "a"
    assert len(everything(source(tmp_path, rows={"subject": [decomposed]}))["p"]) == 2
    before = source(tmp_path).fingerprint()
    new.write_bytes(b"another")
    assert source(tmp_path).fingerprint() != before


def test_blanks_around_a_cell_do_not_count_and_case_of_a_site_is_refused(tmp_path):
    rows = make_table(tmp_path)
    rows.loc[0, "site"], rows.loc[1, "label"] = "p ", " a"
    write_table(tmp_path, rows)
    assert source(tmp_path).sites() == ["p", "q"]
    assert {r.label for r in source(tmp_path).records("p")} == {"a", "b", "c"}
    rows.loc[0, "site"] = "P"
    write_table(tmp_path, rows)
    with pytest.raises(SetError, match="the sites 'P' and 'p' differ by upper and lower case alone"):
        source(tmp_path).sites()


TWO = {"us": "image", "lesion": "mask", "organ": "mask"}


def marked(folder, name, values):
    """(20, 24) PNG with a square of each value, of 16 pixels."""
    pixels = np.zeros((20, 24), np.uint8)
    for place, value in enumerate(values):
        pixels[4:8, 4 * place + 2 : 4 * place + 6] = value
    Pillow.fromarray(pixels).save(folder / name)
    return name


def areas(record):
    return {name: int(plane.sum()) for name, plane in record.channels.items() if name != "us"}


def test_values_of_a_mask_become_several_channels(tmp_path):
    rows = make_table(tmp_path)
    rows.loc[0, "mask"] = marked(tmp_path, "masks/map.png", [1, 2, 3])
    write_table(tmp_path, rows)
    for values in ({"lesion": [1, 2], "organ": 3}, {"lesion": ["1", "2"], "organ": "3"}):
        table = source(tmp_path, TWO, masks=values, rows={"image": rows["image"][0]})
        (record,) = table.records("p")
        assert areas(record) == {"lesion": 32, "organ": 16}
    with pytest.raises(SetError, match="several masks; give 'organ' a column mask_organ, or say which values"):
        source(tmp_path, TWO, masks={"lesion": [1, 2]}).sites()


def test_each_mask_may_have_a_column_of_its_own(tmp_path):
    rows = make_table(tmp_path).drop(columns="mask")
    rows["mask_lesion"] = rows["mask_Organ"] = ""
    rows.loc[0, "mask_lesion"] = marked(tmp_path, "masks/l.png", [255])
    rows.loc[0, "mask_Organ"] = marked(tmp_path, "o.png", [1, 2])
    rows.loc[1, "mask_lesion"] = "masks/l.png"
    write_table(tmp_path, rows)
    first, second, third, *_ = source(tmp_path, TWO, masks={"organ": 2}).records("p")
    assert areas(first) == {"lesion": 16, "organ": 16}
    assert areas(second) == {"lesion": 16}  # the organ's is not known
    assert areas(third) == {}
    write_table(tmp_path, rows.assign(mask="masks/l.png"))
    (record, *_) = source(tmp_path, TWO).records("p")
    assert "has masks in the columns mask and mask_lesion, mask_Organ; keep one" in record.problem


def test_values_that_a_picture_does_not_have_are_told(tmp_path):
    rows = make_table(tmp_path)
    rows.loc[0, "mask"] = marked(tmp_path, "masks/white.png", [255])
    write_table(tmp_path, rows)
    (record,) = source(tmp_path, masks={"lesion": [1]}, rows={"image": rows["image"][0]}).records("p")
    assert record.warnings == ["masks/white.png has the values 0, 255, and none of [[1]] that mark something"]


def test_a_picture_and_its_mask_are_turned_alike(tmp_path):
    rows = make_table(tmp_path, subjects=1, images=1)
    exif = Pillow.Exif()
    exif[0x0112] = 6  # the sensor lay on its side: 90 degrees clockwise
    pixels = np.zeros((16, 24), np.uint8)
    pixels[2:6, 3:11] = 200
    Pillow.fromarray(pixels).save(tmp_path / "images" / "turned.jpg", exif=exif, quality=95)
    Pillow.fromarray(pixels).save(tmp_path / "masks" / "flat.png")  # drawn on the pixels as they are stored
    Pillow.fromarray(np.rot90(pixels, -1)).save(tmp_path / "masks" / "up.png")  # drawn on what a viewer shows
    for mask in ("masks/flat.png", "masks/up.png"):
        write_table(tmp_path, rows.assign(image="images/turned.jpg", mask=mask))
        (record,) = source(tmp_path).records("p")
        assert record.channels["us"].shape == (24, 16)
        assert np.array_equal(record.channels["lesion"] > 0, record.channels["us"] > 100)
        assert bool(record.notes) == (mask == "masks/flat.png")
    square = np.zeros((24, 24), np.uint8)
    square[2:6, 3:11] = 200
    Pillow.fromarray(square).save(tmp_path / "images" / "turned.jpg", exif=exif, quality=95)
    Pillow.fromarray(square).save(tmp_path / "masks" / "flat.png")
    write_table(tmp_path, rows.assign(image="images/turned.jpg", mask="masks/flat.png"))
    assert "which way up the mask is cannot be told" in next(source(tmp_path).records("p")).problem


def test_an_argument_that_is_gone_says_what_to_write(tmp_path):
    make_table(tmp_path)
    block = Block(class_path="fedsynth.sources.table.Table", args={"folder": str(tmp_path), "missing_mask": "empty"})
    with pytest.raises(ParamsError, match=r"missing_mask is gone: .* image\.unmarked: healthy"):
        block.build(image=Image(**IMAGE), seed=1)


def test_the_slices_of_the_pairs_are_dealt_out_so_that_each_site_can_train_and_test(monkeypatch, tmp_path):
    from fedsynth.params import load
    from fedsynth.stages.ingest import ingest
    from fedsynth.stages.sample import given_set

    monkeypatch.setenv("FEDSYNTH_BRATS", str(real("brats-pairs")))
    params = load(Path(__file__).parents[2] / "fedsynth/study/examples/brats.yaml")
    for table in ingest(params, tmp_path / "sites").values():
        assert (table["problem"] == "").all()
        assert set(table["split"]) == {"train", "test"}
    given = given_set(params, ["north", "south"], tmp_path / "given")
    assert set(given.manifest["subject"]) == {"pat0006"}
    assert given.images[:, 0].std() > 0.1


def volumes(folder, image_affine, mask_affine, mask_shape=(12, 10, 8)):
    """An image and a mask as NIfTI, each with an affine; the mask is a box."""
    mask = np.zeros(mask_shape, np.uint8)
    mask[2:6, 2:6, 2:6] = 1
    for name, array, affine in (
        ("a.nii.gz", np.random.default_rng(0).random((12, 10, 8)).astype(np.float32), image_affine),
        ("m.nii.gz", mask, mask_affine),
    ):
        nib.save(nib.Nifti1Image(array, affine), folder / name)
    row = {"image": "a.nii.gz", "mask": "m.nii.gz", "label": "a", "site": "p", "subject": "s1", "modality": "MR"}
    write_table(folder, pd.DataFrame([row]))
    block = {"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(folder)}}

    def ingested(**image):
        image = {"size": [8, 10, 12], "channels": {"t1": "image", "lesion": "mask"}, "labels": ["a"]} | image
        params = tiny_params(source=block, image=image | {"empty_labels": []})
        return ingest(params, folder / "sites")["p"].iloc[0]

    return ingested


LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def test_an_identity_affine_of_a_mask_is_refused_beside_an_oriented_image(tmp_path):
    row = volumes(tmp_path, LPS, np.eye(4))()
    assert "'lesion' has an identity affine" in row["problem"]


def test_a_mask_that_is_stored_the_other_way_round_lies_where_it_was_drawn(tmp_path):
    ingested = volumes(tmp_path, LPS, LPS)
    upright = ingested()
    mask = nib.load(tmp_path / "m.nii.gz")
    flipped = mask.as_reoriented(np.array([[0, -1], [2, 1], [1, -1]]))
    nib.save(nib.Nifti1Image(np.asarray(flipped.dataobj), flipped.affine), tmp_path / "m.nii.gz")
    again = ingested()
    assert again["problem"] == upright["problem"] == ""
    assert again["mask_sha256"] == upright["mask_sha256"]


@pytest.mark.parametrize("shift", [[20, 0, 0], [0, 1, 0], [0, 0, -0.5]])
def test_a_mask_on_another_grid_is_refused_or_resampled_and_said_in_the_manifest(tmp_path, shift):
    moved = LPS.copy()
    moved[:3, 3] = shift
    ingested = volumes(tmp_path, LPS, moved)
    row = ingested()
    assert "'lesion' lies on another grid than 't1'" in row["problem"]
    assert "12x10x8" not in row["problem"]  # as arrays are read, z first
    assert row["problem"].count("8x10x12 voxels of 1x1x1 mm") == 2
    row = ingested(grid={"onto": "t1"})
    assert row["problem"] == ""
    assert "lesion resampled from 8x10x12 voxels" in row["notes"]
    assert (row["mask_area"] == 0) == (shift[0] == 20)


def test_micrometres_and_millimetres_are_one_grid(tmp_path):
    ingested = volumes(tmp_path, LPS, LPS * [1000, 1000, 1000, 1])
    mask = nib.load(tmp_path / "m.nii.gz")
    mask.header.set_xyzt_units("micron")
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), mask.affine, mask.header), tmp_path / "m.nii.gz")
    row = ingested()
    assert (row["problem"], row["mask_area"]) == ("", 64)
    assert row["spacing_mm"] == "1x1x1"


def test_modalities_on_other_grids_are_refused(tmp_path):
    rows = []
    for name, affine in (("t1", LPS), ("t2", LPS * [2, 2, 2, 1])):
        nib.save(nib.Nifti1Image(np.random.default_rng(0).random((12, 10, 8)), affine), tmp_path / f"{name}.nii")
        rows.append([f"{name}.nii", "", "a", "p", "s1", name.upper()])
    write_table(tmp_path, pd.DataFrame(rows, columns=["image", "mask", "label", "site", "subject", "modality"]))
    (record,) = source(tmp_path, {"t1": "image", "t2": "image"}, size=(8, 10, 12)).records("p")
    assert not record.problem
    image = Image(size=(8, 10, 12), channels={"t1": "image", "t2": "image"}, labels=["a"])
    with pytest.raises(SetError, match=r"'t2' lies on another grid than 't1'.* of 2x2x2 mm .* of 1x1x1 mm"):
        fit(record, image)


def test_the_table_may_lie_beside_params_yaml(tmp_path, monkeypatch):
    make_table(tmp_path / "images")
    (tmp_path / "study").mkdir()
    (tmp_path / "images" / "manifest.csv").rename(tmp_path / "study" / "manifest.csv")
    monkeypatch.delenv("FEDSYNTH_ROOT", raising=False)
    monkeypatch.chdir(tmp_path / "study")
    found = source(tmp_path / "images", table="${FEDSYNTH_ROOT}/manifest.csv")
    assert len(list(found.records("p"))) == 24
    before = found.fingerprint()
    monkeypatch.setenv("FEDSYNTH_ROOT", str(tmp_path))
    with pytest.raises(SetError, match=r"manifest\.csv is not there"):
        source(tmp_path / "images", table="${FEDSYNTH_ROOT}/manifest.csv").sites()
    monkeypatch.setenv("FEDSYNTH_ROOT", str(tmp_path / "study"))
    assert source(tmp_path / "images", table="${FEDSYNTH_ROOT}/manifest.csv").fingerprint() == before
