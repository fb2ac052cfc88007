"""BIDS: sessions, suffixes, entities, masks of pipelines, columns of participants.tsv and sessions.tsv, slices, and
everything that may be missing.
"""

import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from fedsynth.data import images
from fedsynth.data.manifest import SetError
from fedsynth.params import Block, Image, ParamsError
from fedsynth.sources.bids import BIDS
from tests.layouts import LABELS, make_bids, marked, save, volume

T1 = "sub-00/anat/sub-00_T1w.nii.gz"
TWO = {"T1w": "image", "FLAIR": "image"}


def source(folder, asked=None, names=LABELS, seed=1, size=(8, 8), image=None, **args):
    made = Image(size=size, channels=asked or {"T1w": "image", "lesion": "mask"}, labels=list(names), **image or {})
    return BIDS(made, seed, str(folder), **{"label": "group"} | args)


def everything(bids):
    return {r.file: r for site in bids.sites() for r in bids.records(site)}


def problems(bids):
    """What is wrong with each image, as ingest finds it."""
    found = {}
    for name, record in everything(bids).items():
        try:
            if not record.problem:
                images.fit(record, bids.image)
        except SetError as error:
            record.problem = str(error)
        found[name] = record.problem
    return list(found.values())


def areas(bids, *masks):
    return [[int(r.channels[m].sum()) for m in masks or ["lesion"]] for r in everything(bids).values()]


def mask_of(folder, subject, ending="label-lesion_mask", pipeline="manual"):
    return folder / "derivatives" / pipeline / f"sub-{subject}" / "anat" / f"sub-{subject}_{ending}.nii.gz"


def table(folder, name, columns):
    pd.DataFrame(columns).to_csv(folder / name, sep="\t", index=False)


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
        SetError, match=r"has no \*_us under sub-\*/anat, but \*_FLAIR, \*_T1w; see source\.args\.channels"
    ):
        source(tmp_path, {"us": "image"}).sites()


def test_a_session_without_one_of_the_channels_is_a_problem_and_without_any_no_image(tmp_path):
    make_bids(tmp_path, subjects=3, suffixes=("T1w", "FLAIR"))
    (tmp_path / "sub-00" / "anat" / "sub-00_FLAIR.nii.gz").unlink()
    for path in (tmp_path / "sub-01" / "anat").iterdir():
        path.unlink()
    found = {r.subject: r.problem for r in everything(source(tmp_path, {"T1w": "image", "FLAIR": "image"})).values()}
    assert found == {"sub-00": "sub-00 has 0 files *_FLAIR; add it, or ask for other channels", "sub-02": ""}


def test_a_channel_that_may_be_lacking_is_absent_where_it_is_not_there(tmp_path):
    make_bids(tmp_path, subjects=3, suffixes=("T1w", "FLAIR"))
    (tmp_path / "sub-00" / "anat" / "sub-00_FLAIR.nii.gz").unlink()
    (tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz").unlink()
    found = everything(source(tmp_path, TWO, image={"may_lack": ["FLAIR"]}))
    assert [list(r.channels) for r in found.values() if not r.problem] == [["T1w"], ["T1w", "FLAIR"]]
    assert found["sub-01/anat/sub-01_FLAIR.nii.gz"].problem == (
        "sub-01 has 0 files *_T1w; add it, or ask for other channels"
    )


def test_of_several_files_entities_choose(tmp_path):
    make_bids(tmp_path, subjects=2)
    save(tmp_path / "sub-00" / "anat" / "sub-00_acq-fast_run-02_T1w.nii.gz", volume(77))
    first = next(iter(source(tmp_path).records("n")))
    assert "has 2 files *_T1w" in first.problem
    assert "source.args.entities" in first.problem
    (fast,) = everything(source(tmp_path, entities={"acq": "fast", "run": "02"})).values()
    assert np.array_equal(fast.channels["T1w"], volume(77)[:, :, 0].T)
    assert [r.problem for r in everything(source(tmp_path, entities={"acq": None})).values()] == ["", ""]


def runs(folder):
    """Two runs of each of two subjects."""
    for i in range(2):
        for run in ("01", "02"):
            save(folder / f"sub-0{i}" / "anat" / f"sub-0{i}_acq-07_run-{run}_T1w.nii.gz", volume(10 * i + int(run)))
    table(folder, "participants.tsv", {"participant_id": ["sub-00", "sub-01"], "group": LABELS[:2], "site": ["n", "e"]})
    return folder


@pytest.mark.parametrize("said", [{"run": 1}, {"run": 1.0}, {"run": "1"}, {"run": "01"}, {"run": 1, "acq": 7}])
def test_a_run_is_chosen_by_its_number_however_it_is_written(tmp_path, said):
    found = everything(source(runs(tmp_path), {"T1w": "image"}, entities=said))
    assert not any(r.problem for r in found.values())
    assert np.array_equal(found["sub-01/anat/sub-01_acq-07_run-01_T1w.nii.gz"].channels["T1w"], volume(11)[:, :, 0].T)


@pytest.mark.parametrize("said", [{"run": 3}, {"run": None}, {"run": "one"}, {"acq": "7"}])
def test_entities_that_no_file_has_are_named_with_a_file_that_is_there(tmp_path, said):
    with pytest.raises(
        SetError, match=r"has no \*_T1w with the entities .*, but sub-00_acq-07_run-01_T1w\S+ and 3 more"
    ):
        everything(source(runs(tmp_path), {"T1w": "image"}, entities=said))


def test_two_kinds_of_a_file_are_two_files(tmp_path):
    make_bids(tmp_path, subjects=1)
    save(tmp_path / "sub-00" / "anat" / "sub-00_T1w.nii", volume(1))
    (record,) = everything(source(tmp_path)).values()
    assert "has 2 files *_T1w: sub-00/anat/sub-00_T1w.nii, sub-00/anat/sub-00_T1w.nii.gz" in record.problem


def test_masks_are_files_by_the_end_of_their_name_or_values_of_a_dseg(tmp_path):
    make_bids(tmp_path / "a", subjects=2)
    assert areas(source(tmp_path / "a")) == [[0], [48]]
    save(mask_of(tmp_path / "a", "01", "desc-roi_mask", "bet"), np.ones((20, 24, 1), np.uint8))
    for args in ({}, {"derivative": "manual"}, {"masks": {"lesion": "label-lesion_mask"}}):
        assert areas(source(tmp_path / "a", **args)) == [[0], [48]]
    two = everything(
        source(tmp_path / "a", {"T1w": "image", "lesion": "mask", "b": "mask"}, masks={"b": "desc-roi_mask"})
    )
    second = two["sub-01/anat/sub-01_T1w.nii.gz"].channels
    assert [int(second[m].sum()) for m in ("lesion", "b")] == [48, 480]
    make_bids(tmp_path / "d", subjects=2, ending="dseg")
    asked = {"T1w": "image", "core": "mask", "all": "mask"}
    for values in ({"core": 2, "all": [1, 2]}, {"core": "2", "all": ["1", "2"]}):
        assert areas(source(tmp_path / "d", asked, masks=values), "core", "all")[1] == [24, 48]
    with pytest.raises(ParamsError, match=r"source\.args\.masks\.core: must be values of the \*_dseg, or the end"):
        source(tmp_path / "d", asked, masks={"core": ["two"]})


def test_two_masks_that_could_be_meant_are_refused_with_both_names(tmp_path):
    make_bids(tmp_path, subjects=2)
    save(mask_of(tmp_path, "01", pipeline="other"), marked((1,)))
    first, second = problems(source(tmp_path))
    assert not first
    assert "has 2 masks for 'lesion': derivatives/manual/sub-01" in second
    assert "derivatives/other/sub-01/anat/sub-01_label-lesion_mask.nii.gz; see source.args.masks, derivative" in second
    assert problems(source(tmp_path, derivative="other"))[1] == ""


def test_labels_in_names_of_masks_match_whatever_their_case_and_place(tmp_path):
    make_bids(tmp_path, subjects=2, ending="label-Lesion_desc-final_mask")
    assert areas(source(tmp_path)) == [[0], [48]]
    with pytest.raises(
        SetError, match=r"has no \*_label-tumour_mask, but \*_label-Lesion_mask; say in source\.args\.masks"
    ):
        everything(source(tmp_path, {"T1w": "image", "tumour": "mask"}))


@pytest.mark.parametrize("unmarked", ["healthy", "unknown"])
def test_a_brain_is_no_lesion(tmp_path, unmarked):
    make_bids(tmp_path, subjects=2)
    mask_of(tmp_path, "00").unlink()
    for subject in ("00", "01"):
        save(mask_of(tmp_path, subject, "desc-brain_mask", "fmriprep"), np.ones((20, 24, 1), np.uint8))
    bids = source(tmp_path, image={"unmarked": unmarked})
    assert problems(bids) == ["", ""]
    first, second = everything(bids).values()
    assert "lesion" not in first.channels
    assert int(second.channels["lesion"].sum()) == 48
    assert areas(source(tmp_path, {"T1w": "image", "brain": "mask"}, derivative="fmriprep"), "brain") == [[480]] * 2


def test_a_mask_is_that_of_the_file_with_its_entities(tmp_path):
    runs(tmp_path)
    for i in range(2):
        save(mask_of(tmp_path, f"0{i}", "run-1_label-lesion_mask"), marked((1,)))
        save(mask_of(tmp_path, f"0{i}", "acq-07_run-02_label-lesion_mask"), marked((1, 2)))
    for run, area in ((1, 24), (2, 48)):
        assert areas(source(tmp_path, entities={"run": run})) == [[area]] * 2
    mask_of(tmp_path, "00", "run-1_label-lesion_mask").unlink()
    for image in ({}, {"unmarked": "healthy"}):
        first, second = problems(source(tmp_path, entities={"run": 1}, image=image))
        assert re.search("has no mask for 'lesion': .*run-02_label-lesion_mask.nii.gz is of another file", first)
        assert not second


def test_a_mask_in_the_space_of_a_template_is_not_that_of_the_image(tmp_path):
    make_bids(tmp_path, subjects=2, ending="space-MNI152NLin6Asym_label-lesion_mask")
    for image in ({"grid": {"onto": "T1w"}}, {"unmarked": "healthy"}):
        assert "is of another file, or in another space" in problems(source(tmp_path, image=image))[0]
    for subject in ("00", "01"):
        save(mask_of(tmp_path, subject, "space-T1w_label-lesion_mask"), marked((1,)))
    assert areas(source(tmp_path)) == [[24], [24]]


@pytest.mark.parametrize("ending", ["dseg", "label-lesion_mask"])
def test_label_values_near_an_integer_are_that_integer_and_others_are_refused(tmp_path, ending):
    make_bids(tmp_path, subjects=2, ending=ending)
    masks = {"masks": {"lesion": [1]}} if ending == "dseg" else {}
    save(mask_of(tmp_path, "01", ending), marked((1,)) * np.float32(1.00002))
    assert areas(source(tmp_path, **masks)) == [[0], [24]]
    save(mask_of(tmp_path, "01", ending), marked((1,)) * np.float32(0.4))
    assert "holds the label value 0.4 and 23 more, which is no integer" in problems(source(tmp_path, **masks))[1]


def test_several_labels_that_are_one_mask_are_warned_of(tmp_path):
    make_bids(tmp_path, subjects=2, ending="dseg")
    first, second = everything(source(tmp_path)).values()
    assert not first.warnings
    assert second.warnings == ["sub-01_dseg.nii.gz has 2 labels, 1 to 2, all taken for lesion; see source.args.masks"]
    assert not any(r.warnings for r in everything(source(tmp_path, masks={"lesion": [1, 2]})).values())


def test_a_session_without_its_mask_has_an_unknown_one_unless_params_say_otherwise(tmp_path):
    make_bids(tmp_path, subjects=2)
    mask_of(tmp_path, "00").unlink()
    assert problems(source(tmp_path)) == ["", ""]
    assert "lesion" not in everything(source(tmp_path))[T1].channels
    healthy = source(tmp_path, image={"unmarked": "healthy"})
    record = everything(healthy)[T1]
    images.together(record, healthy.image)
    assert not record.channels["lesion"].any()
    assert record.mask_shape is None


def test_the_argument_missing_mask_is_gone_and_what_to_write_is_said(tmp_path):
    block = Block(class_path="fedsynth.sources.bids.BIDS", args={"folder": str(tmp_path), "missing_mask": "empty"})
    with pytest.raises(ParamsError, match=r"missing_mask.*image\.unmarked: healthy"):
        block.build(image=Image(size=(8, 8), channels={"t1": "image"}, labels=["x"]), seed=1)


@pytest.mark.parametrize("what", ["mask", "FLAIR"])
def test_a_file_on_another_grid_is_refused_with_both_grids_or_resampled(tmp_path, what):
    make_bids(tmp_path, subjects=2, suffixes=("T1w", "FLAIR"), size=(20, 24, 9))
    path = mask_of(tmp_path, "00") if what == "mask" else tmp_path / T1.replace("T1w", "FLAIR")
    save(path, np.asarray(nib.load(path).dataobj), (1.0, 2.0, 3.0), (0.0, 6.0, 0.0))
    asked = TWO | {"lesion": "mask"}
    first, second = problems(source(tmp_path, asked, size=(8, 8, 8)))
    assert not second
    assert re.search(r"lies on another grid than 'T1w'.* from \(.*9x24x20 voxels of 3x2x1 mm", first)
    onto = source(tmp_path, asked, size=(8, 8, 8), image={"grid": {"onto": "T1w"}})
    assert problems(onto) == ["", ""]


def test_points_in_time_are_no_channels(tmp_path):
    make_bids(tmp_path, subjects=1, suffixes=("bold",), size=(20, 24, 9))
    file = nib.Nifti1Image(np.zeros((20, 24, 9, 3), np.int16), np.diag([-1, -2, 3, 1]))
    file.header.set_xyzt_units("mm", "sec")
    nib.save(file, tmp_path / T1.replace("T1w", "bold"))
    for asked in ({"bold": "image"}, {"red": "image", "green": "image", "blue": "image"}):
        bids = source(tmp_path, asked, size=(8, 8, 8), channels=dict.fromkeys(asked, "bold"))
        assert "has 3 points in time" in problems(bids)[0]


def test_an_image_may_be_a_slice(tmp_path):
    make_bids(tmp_path, subjects=2, suffixes=("T1w", "FLAIR"), size=(20, 24, 9))
    bids = source(tmp_path, TWO | {"lesion": "mask"}, slices={"axis": 1, "every": 6, "least": 0})
    found = everything(bids)
    assert [name for name in found if name.startswith("sub-01")] == [
        f"sub-01/anat/sub-01_T1w.nii.gz [{place}]" for place in (0, 6, 12, 18)
    ]
    record = found["sub-01/anat/sub-01_T1w.nii.gz [6]"]
    assert np.array_equal(record.channels["FLAIR"], volume(101, (20, 24, 9))[:, 6].T)
    assert int(record.channels["lesion"].sum()) == 8 * 9
    assert record.spacing_mm == (3.0, 1.0)
    assert problems(bids) == [""] * 8


def test_participants_may_be_missing_only_where_nothing_is_asked_of_them(tmp_path):
    make_bids(tmp_path, subjects=3)
    people = pd.read_csv(tmp_path / "participants.tsv", sep="\t")
    people.assign(group=["n/a", "none", "none"]).drop(index=2).to_csv(
        tmp_path / "participants.tsv", sep="\t", index=False
    )
    iid = {"kind": "iid", "sites": ["x"]}
    problems = [r.problem for r in everything(source(tmp_path, partition=iid)).values()]
    assert [p.split(";")[0] for p in problems] == [
        "sub-00 has no group in participants.tsv",
        "",
        "sub-02 has no row in participants.tsv",
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


def test_ids_of_participants_may_be_without_sub(tmp_path):
    make_bids(tmp_path, subjects=4)
    ids, people = ["00", "sub-01", "2", "sub-03"], {"group": [*LABELS, "none"], "site": ["n", "e", "n", "n/a"]}
    table(tmp_path, "participants.tsv", {"participant_id": ids} | people)
    found = sorted(everything(source(tmp_path)).values(), key=lambda r: r.subject)
    assert [r.label for r in found][:2] == list(LABELS[:2])
    assert [r.notes for r in found][:2] == [["participants.tsv calls sub-00 '00'"], []]
    by_subject = {r.subject: r.problem for r in found}
    assert by_subject["sub-02"].startswith("sub-02 has no row in participants.tsv, which names 'sub-2'; add it")
    assert by_subject["sub-03"].startswith(
        "sub-03 has no site in participants.tsv; add it, or give source.args.partition"
    )
    table(
        tmp_path,
        "participants.tsv",
        {"participant_id": ["00", "sub-00"], "group": ["none", "none"], "site": ["n", "n"]},
    )
    assert not everything(source(tmp_path))[T1].problem
    table(tmp_path, "participants.tsv", {"participant_id": ["00", "sub-00"], "group": LABELS[:2], "site": ["n", "n"]})
    with pytest.raises(SetError, match=r"participants\.tsv: line 3 says something else of sub-00 than a line before"):
        everything(source(tmp_path))


def test_a_session_may_have_a_label_of_its_own(tmp_path):
    make_bids(tmp_path, subjects=2, sessions=("ses-a", "ses-b", "ses-c"))
    own = {"session_id": ["ses-a", "b"], "group": ["none", "extra_axial"]}
    table(tmp_path / "sub-01", "sub-01_sessions.tsv", own)
    bids = source(tmp_path)
    assert [r.label for r in everything(bids).values()] == ["none"] * 3 + ["none", "extra_axial", "infiltrating"]
    seen = bids.fingerprint()
    table(tmp_path / "sub-01", "sub-01_sessions.tsv", own | {"group": ["none", "n/a"]})
    assert source(tmp_path).fingerprint() != seen
    (record,) = [r for r in everything(source(tmp_path)).values() if r.problem]
    assert record.problem.startswith("sub-01/ses-b has no group in sub-01_sessions.tsv; add it")
    table(tmp_path / "sub-01", "sub-01_sessions.tsv", own | {"session_id": ["b", "ses-b"]})
    with pytest.raises(SetError, match=r"sub-01_sessions\.tsv has 2 rows of ses-b; keep one"):
        everything(source(tmp_path))


def test_labels_may_be_of_sessions_alone(tmp_path):
    make_bids(tmp_path, subjects=1, sessions=("ses-a", "ses-b"))
    (tmp_path / "participants.tsv").unlink()
    table(tmp_path / "sub-00", "sub-00_sessions.tsv", {"session_id": ["ses-a"], "group": ["none"]})
    found = everything(source(tmp_path, partition={"kind": "iid", "sites": ["x"]})).values()
    assert [(r.label, bool(r.problem)) for r in found] == [("none", False), ("", True)]


def test_sessions_are_left_out_by_what_tables_say_of_them(tmp_path):
    make_bids(tmp_path, subjects=4, sessions=("ses-a", "ses-b"))
    for exclude, there in (
        ({"subject": ["sub-00"], "session": ["ses-b"]}, ["sub-01", "sub-02", "sub-03"]),
        ({"site": ["e"], "session": ["ses-a"]}, ["sub-00", "sub-02"]),
    ):
        assert sorted(r.subject for r in everything(source(tmp_path, exclude=exclude)).values()) == there
    with pytest.raises(
        SetError, match=r"has no column 'sit', which source\.args\.exclude names; .*did you mean 'site'"
    ):
        everything(source(tmp_path, exclude={"sit": ["e"]}))
    few = source(tmp_path, at_most=1, partition={"kind": "iid", "sites": ["x"]})
    assert sorted(r.label for r in everything(few).values()) == sorted(LABELS)


def test_a_bad_file_is_one_bad_record(tmp_path):
    make_bids(tmp_path, subjects=3)
    (tmp_path / "sub-00" / "anat" / "sub-00_T1w.nii.gz").write_bytes(b"no volume")
    save(mask_of(tmp_path, "02"), marked((1,), (9, 24, 1)))
    first, third, second = problems(source(tmp_path))
    assert "sub-00_T1w.nii.gz cannot be read" in first
    assert not second
    assert re.search(r"'lesion' lies on another grid than 'T1w'\. lesion: 24x9 voxels.* T1w: 24x20 voxels", third)


def test_arguments_that_make_no_sense_are_named(tmp_path):
    with pytest.raises(ParamsError, match=r"masks names \['x'\]"):
        source(tmp_path, masks={"x": 1})
    for argument, name in (("derivative", "../../elsewhere"), ("datatype", "a/b"), ("derivative", "..")):
        with pytest.raises(ParamsError, match=rf"source\.args\.{argument}: must be the name of a folder"):
            source(tmp_path, **{argument: name})


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


def test_sex_and_age_are_the_sessions_own_or_else_the_participants(tmp_path):
    make_bids(tmp_path, subjects=2, sessions=("ses-a", "ses-b"))
    people = pd.read_csv(tmp_path / "participants.tsv", sep="\t")
    people.assign(sex=["F", "n/a"], age=[39, 61]).to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    table(tmp_path / "sub-00", "sub-00_sessions.tsv", {"session_id": ["ses-a", "ses-b"], "age": ["39", "40"]})
    found = {name.split("_T1w")[0].split("/")[-1]: (r.sex, r.age) for name, r in everything(source(tmp_path)).items()}
    assert found == {
        "sub-00_ses-a": ("F", "39"),
        "sub-00_ses-b": ("F", "40"),
        "sub-01_ses-a": ("", "61"),
        "sub-01_ses-b": ("", "61"),
    }
