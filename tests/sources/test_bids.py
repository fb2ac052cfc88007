"""BIDS: sessions, suffixes, entities, masks of pipelines, columns of participants.tsv, and everything that may be
missing.
"""

import numpy as np
import pandas as pd
import pytest

from fedsynth.data.manifest import SetError
from fedsynth.params import Image, ParamsError
from fedsynth.sources.bids import BIDS
from tests.layouts import LABELS, make_bids, marked, save, volume


def source(folder, asked=None, names=LABELS, seed=1, **args):
    image = Image(size=(8, 8), channels=asked or {"T1w": "image", "lesion": "mask"}, labels=list(names))
    return BIDS(image, seed, str(folder), **{"label": "group"} | args)


def everything(bids):
    return {r.file: r for site in bids.sites() for r in bids.records(site)}


def test_a_session_is_an_image_of_its_subject_with_its_persons_label_and_site(tmp_path):
    make_bids(tmp_path, subjects=4, sessions=("ses-a", "ses-b"))
    bids = source(tmp_path)
    assert bids.sites() == ["n", "e"]
    assert [(r.subject, r.label, r.problem) for r in bids.records("e")] == [
        ("sub-01", "infiltrating", ""), ("sub-01", "infiltrating", ""), ("sub-03", "none", ""), ("sub-03", "none", ""),
    ]  # fmt: skip
    record = everything(bids)["sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz"]
    assert np.array_equal(record.channels["T1w"], volume(110)[:, :, 0].T)
    assert record.spacing_mm == (2.0, 1.0)
    assert {f: int(r.channels["lesion"].sum()) for f, r in everything(source(tmp_path)).items() if "ses-a" in f} == {
        f"sub-0{i}/ses-a/anat/sub-0{i}_ses-a_T1w.nii.gz": 48 if i % 3 else 0 for i in range(4)
    }


def test_a_partition_keeps_the_sessions_of_a_subject_together(tmp_path):
    make_bids(tmp_path, subjects=6, sessions=("ses-a", "ses-b"))
    bids = source(tmp_path, partition={"kind": "iid", "sites": 3})
    subjects = [[r.subject for r in bids.records(site)] for site in bids.sites()]
    assert sorted(map(len, subjects)) == [4, 4, 4]
    assert len(set().union(*subjects)) == sum(len(set(s)) for s in subjects)


def test_channels_are_suffixes_by_their_name_or_by_argument(tmp_path):
    make_bids(tmp_path, subjects=2, suffixes=("T1w", "FLAIR"))
    both = everything(source(tmp_path, {"FLAIR": "image", "t1": "image"}, channels={"t1": "T1w"}))
    first = (
        both["sub-00/anat/sub-00_T1w.nii.gz"]
        if "sub-00/anat/sub-00_T1w.nii.gz" in both
        else both["sub-00/anat/sub-00_FLAIR.nii.gz"]
    )
    assert np.array_equal(first.channels["t1"], volume(0)[:, :, 0].T)
    assert np.array_equal(first.channels["FLAIR"], volume(1)[:, :, 0].T)
    with pytest.raises(
        SetError, match=r"has no image \['us'\] under sub-\*/anat, but \['FLAIR', 'T1w'\]; see source\.args\.channels"
    ):
        source(tmp_path, {"us": "image"}).sites()


def test_a_session_without_one_of_the_channels_is_a_problem_and_without_any_no_image(tmp_path):
    make_bids(tmp_path, subjects=3, suffixes=("T1w", "FLAIR"))
    (tmp_path / "sub-00" / "anat" / "sub-00_FLAIR.nii.gz").unlink()
    for path in (tmp_path / "sub-01" / "anat").iterdir():
        path.unlink()
    found = {r.subject: r.problem for r in everything(source(tmp_path, {"T1w": "image", "FLAIR": "image"})).values()}
    assert found == {"sub-00": "sub-00 has 0 files *_FLAIR; add it, or ask for other channels", "sub-02": ""}


def test_of_several_files_entities_choose(tmp_path):
    make_bids(tmp_path, subjects=2)
    save(tmp_path / "sub-00" / "anat" / "sub-00_acq-fast_run-02_T1w.nii.gz", volume(77))
    first = next(iter(source(tmp_path).records("n")))
    assert "has 2 files *_T1w" in first.problem
    assert "source.args.entities" in first.problem
    (fast,) = everything(source(tmp_path, entities={"acq": "fast", "run": "02"})).values()
    assert np.array_equal(fast.channels["T1w"], volume(77)[:, :, 0].T)
    assert [r.problem for r in everything(source(tmp_path, entities={"acq": None})).values()] == ["", ""]


def test_masks_are_files_by_the_end_of_their_name_or_values_of_a_dseg(tmp_path):
    make_bids(tmp_path / "a", subjects=2)
    assert [int(r.channels["lesion"].sum()) for r in everything(source(tmp_path / "a")).values()] == [0, 48]
    save(
        tmp_path / "a" / "derivatives" / "bet" / "sub-01" / "anat" / "sub-01_desc-brain_mask.nii.gz",
        np.ones((20, 24, 1), np.uint8),
    )
    assert [bool(r.problem) for r in everything(source(tmp_path / "a")).values()] == [False, True]
    for args in ({"derivative": "manual"}, {"masks": {"lesion": "label-lesion_mask"}}):
        assert not any(r.problem for r in everything(source(tmp_path / "a", **args)).values())
    two = everything(
        source(tmp_path / "a", {"T1w": "image", "lesion": "mask", "b": "mask"}, masks={"b": "desc-brain_mask"})
    )
    assert [int(two["sub-01/anat/sub-01_T1w.nii.gz"].channels[m].sum()) for m in ("lesion", "b")] == [48, 480]
    make_bids(tmp_path / "d", subjects=2, ending="dseg")
    asked = {"T1w": "image", "core": "mask", "all": "mask"}
    (_, second) = everything(source(tmp_path / "d", asked, masks={"core": 2, "all": [1, 2]})).values()
    assert [int(second.channels[m].sum()) for m in ("core", "all")] == [24, 48]


def test_a_missing_mask_is_a_problem_unless_it_means_that_nothing_is_marked(tmp_path):
    make_bids(tmp_path, subjects=2)
    (tmp_path / "derivatives" / "manual" / "sub-00" / "anat" / "sub-00_label-lesion_mask.nii.gz").unlink()
    first, second = everything(source(tmp_path)).values()
    assert "sub-00_T1w.nii.gz has 0 masks" in first.problem
    assert "missing_mask: empty" in first.problem
    assert not second.problem
    first, _ = everything(source(tmp_path, missing_mask="empty")).values()
    assert not first.problem
    assert not first.channels["lesion"].any()
    assert first.mask_shape is None


def test_participants_may_be_missing_only_where_nothing_is_asked_of_them(tmp_path):
    make_bids(tmp_path, subjects=3)
    people = pd.read_csv(tmp_path / "participants.tsv", sep="\t")
    people.assign(group=["n/a", "none", "none"]).drop(index=2).to_csv(
        tmp_path / "participants.tsv", sep="\t", index=False
    )
    iid = {"kind": "iid", "sites": ["x"]}
    problems = [r.problem for r in everything(source(tmp_path, partition=iid)).values()]
    assert [p.split(";")[0] for p in problems] == [
        f"sub-0{i} has no group in participants.tsv" * (i != 1) for i in range(3)
    ]
    assert {r.file[:6]: site for site in "ne" for r in source(tmp_path).records(site)} == {
        "sub-00": "n",
        "sub-01": "e",
        "sub-02": "n",
    }
    with pytest.raises(SetError, match=r"participants\.tsv lacks the columns \['dx'\]"):
        source(tmp_path, label="dx").sites()
    with pytest.raises(ParamsError, match="the column of participants"):
        everything(source(tmp_path, label="", partition=iid))
    (tmp_path / "participants.tsv").unlink()
    assert [r.label for r in everything(source(tmp_path, names=["x"], label="", partition=iid)).values()] == ["x"] * 3


def test_a_bad_file_is_one_bad_record(tmp_path):
    make_bids(tmp_path, subjects=3)
    (tmp_path / "sub-00" / "anat" / "sub-00_T1w.nii.gz").write_bytes(b"no volume")
    save(
        tmp_path / "derivatives" / "manual" / "sub-02" / "anat" / "sub-02_label-lesion_mask.nii.gz",
        marked((1,), (9, 24, 1)),
    )
    first, third, second = everything(source(tmp_path)).values()
    assert "sub-00_T1w.nii.gz cannot be read" in first.problem
    assert not second.problem
    assert "sub-02_label-lesion_mask.nii.gz is (24, 9), its image" in third.problem


def test_arguments_that_make_no_sense_are_named(tmp_path):
    with pytest.raises(ParamsError, match=r"masks names \['x'\]"):
        source(tmp_path, masks={"x": 1})
    with pytest.raises(ParamsError, match="missing_mask: problem or empty, not 'ignore'"):
        source(tmp_path, missing_mask="ignore")


def test_a_changed_mask_or_table_changes_the_fingerprint_and_nothing_else_does(tmp_path):
    make_bids(tmp_path, subjects=2)
    seen = [source(tmp_path).fingerprint()]
    assert source(tmp_path, seed=2).fingerprint() == seen[0]
    save(
        tmp_path / "derivatives" / "manual" / "sub-00" / "anat" / "sub-00_label-lesion_mask.nii.gz",
        np.ones((20, 24, 1), np.uint8),
    )
    seen.append(source(tmp_path).fingerprint())
    with (tmp_path / "participants.tsv").open("a") as file:
        file.write("sub-09\tnone\tn\n")
    assert len({*seen, source(tmp_path).fingerprint()}) == 3
