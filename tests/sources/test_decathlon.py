"""The Decathlon's and nnU-Net's folders: channels, masks by value and name, labels of a table and of masks, and what
can be wrong.
"""

import json
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from fedsynth.data import images
from fedsynth.data.manifest import SetError
from fedsynth.params import Image, ParamsError
from fedsynth.sources.decathlon import Decathlon
from tests.layouts import LABELS, make_decathlon, save
from tests.realdata import real

ONE = {"kind": "iid", "sites": ["here"]}
TWO = {"t1": "image", "t2": "image", "lesion": "mask"}


def source(folder, asked=None, names=("x",), empty=(), size=(8, 8), seed=1, **args):
    image = Image(
        size=size, channels=asked or {"t1": "image", "lesion": "mask"}, labels=list(names), empty_labels=list(empty)
    )
    return Decathlon(image, seed, str(folder), **{"partition": ONE} | args)


def everything(decathlon):
    return [r for site in decathlon.sites() for r in decathlon.records(site)]


def pixels(path):
    return images.read(path, 2)[0]


@pytest.mark.parametrize("nnunet", [False, True], ids=["decathlon", "nnunet"])
def test_both_layouts_give_the_same_records(tmp_path, nnunet):
    make_decathlon(tmp_path, cases=3, channels=("t1", "t2"), nnunet=nnunet)
    records = everything(source(tmp_path, TWO))
    make_decathlon(tmp_path / "plain", cases=3, channels=("t1", "t2"))
    expected = pixels(tmp_path / "plain" / "imagesTr" / "case_001.nii.gz")
    assert [r.subject for r in records] == ["case_000", "case_001", "case_002"]
    assert np.array_equal([records[1].channels["t1"], records[1].channels["t2"]], expected)
    assert [int(r.channels["lesion"].sum()) for r in records] == [0, 24, 48]
    assert all(not r.problem and r.spacing_mm == (2.0, 1.0) for r in records)


@pytest.mark.parametrize("nnunet", [False, True], ids=["decathlon", "nnunet"])
def test_channels_go_by_their_name_and_not_by_their_place(tmp_path, nnunet):
    make_decathlon(tmp_path, cases=2, channels=("t1", "t2"), nnunet=nnunet)
    straight, turned = (
        everything(source(tmp_path, dict.fromkeys(order, "image")))[0].channels
        for order in (("t1", "t2"), ("t2", "t1"))
    )
    assert np.array_equal(straight["t1"], turned["t1"])
    assert not np.array_equal(straight["t1"], straight["t2"])
    assert np.array_equal(straight["t2"], everything(source(tmp_path, {"t2": "image"}))[0].channels["t2"])
    assert np.array_equal(
        straight["t2"], everything(source(tmp_path, {"mr": "image"}, channels={"mr": "t2"}))[0].channels["mr"]
    )
    by_place = everything(source(tmp_path, {"a": "image", "b": "image"}))[0].channels
    assert np.array_equal(by_place["b"], straight["t2"])
    unknown = everything(source(tmp_path, {"t1": "image", "flair": "image"}))[0]
    assert "has no channel 'flair', it has ['t1', 't2']" in unknown.problem


def test_masks_are_values_by_name_by_argument_or_all(tmp_path):
    make_decathlon(tmp_path, cases=3)
    third = {  # (1, 2) is marked in it, four rows of six pixels each
        "all": source(tmp_path),
        "by name": source(tmp_path, {"t1": "image", "core": "mask", "halo": "mask"}),
        "by argument": source(tmp_path, masks={"lesion": 2}),
        "two of one": source(tmp_path, {"t1": "image", "a": "mask", "b": "mask"}, masks={"a": [1, 2], "b": [2]}),
    }
    areas = {k: [int(r.channels[m].sum()) for m in s.image.masks] for k, s in third.items() for r in everything(s)[2:]}
    assert areas == {"all": [48], "by name": [24, 24], "by argument": [24], "two of one": [48, 24]}
    unnamed = everything(source(tmp_path, {"t1": "image", "core": "mask", "edge": "mask"}))[0]
    assert "has no label 'edge'" in unnamed.problem
    assert "source.args.masks" in unnamed.problem


def test_regions_of_nnunet_are_masks_that_overlap(tmp_path):
    make_decathlon(tmp_path, cases=3, nnunet=True, labels={"background": 0, "whole": [1, 2], "halo": 2})
    record = everything(source(tmp_path, {"t1": "image", "whole": "mask", "halo": "mask"}))[2]
    assert [int(record.channels[m].sum()) for m in ("whole", "halo")] == [48, 24]


def test_a_label_comes_from_the_table(tmp_path):
    make_decathlon(tmp_path, table=True)
    assert [r.label for r in everything(source(tmp_path, names=LABELS, table="cases.csv"))] == [
        LABELS[i % 3] for i in range(9)
    ]
    cases = pd.DataFrame(
        {
            "case": [f"case_{i:03d}" for i in range(8)],
            "label": ["a", "b"] * 4,
            "subject": [f"p{i // 2}" for i in range(8)],
            "site": ["n", "e"] * 4,
        }
    )
    cases.to_csv(tmp_path / "other.csv", index=False)
    decathlon = source(tmp_path, names=["a"], table=str(tmp_path / "other.csv"), labels={"b": None})
    records = everything(decathlon)
    assert [r.subject for r in records if not r.problem] == ["p0", "p1", "p2", "p3"]
    (lost,) = [r for r in records if r.problem]
    assert "case_008.nii.gz has no row in other.csv" in lost.problem


def test_sites_of_the_table_are_the_sites(tmp_path):
    make_decathlon(tmp_path, cases=4)
    cases = pd.DataFrame({"subject": [f"case_{i:03d}" for i in range(4)], "label": "x", "site": ["n", "e", "n", "e"]})
    cases.to_csv(tmp_path / "cases.csv", index=False)
    decathlon = source(tmp_path, table="cases.csv", partition=None)
    assert {site: [r.subject for r in decathlon.records(site)] for site in decathlon.sites()} == {
        "n": ["case_000", "case_002"], "e": ["case_001", "case_003"],
    }  # fmt: skip
    with pytest.raises(SetError, match=r"no site is known of imagesTr/case_000\.nii\.gz; give source\.args\.partition"):
        source(tmp_path, partition=None).sites()


def test_without_a_table_a_label_is_what_is_marked(tmp_path):
    make_decathlon(tmp_path, cases=3)
    assert [r.label for r in everything(source(tmp_path))] == ["x", "x", "x"]
    assert [r.label for r in everything(source(tmp_path, names=["ill", "well"], empty=["well"]))] == [
        "well",
        "ill",
        "ill",
    ]
    rule = {"none": [], "core": [1], "halo": [2]}
    assert [r.label for r in everything(source(tmp_path, names=list(rule), by_mask=rule))] == ["none", "core", "halo"]
    with pytest.raises(ParamsError, match=r"nothing says which an image has: give source\.args\.table, or by_mask"):
        everything(source(tmp_path, names=["a", "b", "c"]))


def test_a_partition_by_the_masks_labels_skews_them(tmp_path):
    make_decathlon(tmp_path, cases=6, values=((), (1,)))
    silos = source(tmp_path, names=["ill", "well"], empty=["well"], partition={"kind": "silos", "sites": 2})
    assert [{r.label for r in silos.records(site)} for site in silos.sites()] == [{"ill"}, {"well"}]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "imagesTr" / "case_000.nii.gz").unlink(), r"case_000\.nii\.gz is not there"),
        (lambda f: (f / "imagesTr" / "case_000.nii.gz").write_bytes(b"no volume"), r"case_000\.nii\.gz cannot be read"),
        (lambda f: (f / "labelsTr" / "case_000.nii.gz").unlink(), r"case_000\.nii\.gz is not there"),
        (lambda f: save(f / "labelsTr" / "case_000.nii.gz", np.ones((20, 23, 1), np.uint8)),
         r"case_000\S+ is \(23, 20\), its image"),
        (lambda f: save(f / "imagesTr" / "case_000.nii.gz", np.ones((20, 24, 3), np.float32)),
         "image.size asks for 2 axes|has 3"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_bad_record(tmp_path, spoil, said):
    make_decathlon(tmp_path, cases=3)
    spoil(tmp_path)
    first, *others = everything(source(tmp_path))
    assert re.search(said, first.problem)
    assert len(others) == 2
    assert not any(r.problem for r in others)


def test_a_file_with_fewer_channels_than_named_is_a_problem(tmp_path):
    make_decathlon(tmp_path, cases=2, channels=("t1", "t2"), nnunet=True)
    (tmp_path / "imagesTr" / "case_000_0001.nii.gz").unlink()
    first, second = everything(source(tmp_path, {"t2": "image"}))
    assert "case_000_0000.nii.gz has 1 channels, dataset.json names ['t1', 't2']" in first.problem
    assert not second.problem


def test_a_dataset_json_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(SetError, match="must name the folder of the images"):
        source(tmp_path / "nowhere").fingerprint()
    with pytest.raises(SetError, match=r"dataset\.json cannot be read.*must hold dataset\.json, imagesTr and labelsTr"):
        source(tmp_path).fingerprint()
    for text in ("{", "[]"):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(SetError, match=r"dataset\.json"):
            source(tmp_path).fingerprint()
    (tmp_path / "dataset.json").write_text(json.dumps({"training": ["../../secret.nii.gz"]}))
    with pytest.raises(SetError, match="leads out of its folder"):
        source(tmp_path).fingerprint()
    (tmp_path / "dataset.json").write_text(json.dumps({"training": []}))
    with pytest.raises(SetError, match="holds no image that this source reads"):
        everything(source(tmp_path))
    make_decathlon(tmp_path, cases=1)
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "t1"}}))
    with pytest.raises(SetError, match=r"case_000\.nii\.gz: without `training`.*_0000\.nii\.gz"):
        everything(source(tmp_path))


def test_arguments_that_make_no_sense_are_named(tmp_path):
    with pytest.raises(ParamsError, match=r"masks names \['tumour'\], image\.channels has \['lesion'\]"):
        source(tmp_path, masks={"tumour": 1})
    with pytest.raises(ParamsError, match=r"channels names \['t9'\]"):
        source(tmp_path, channels={"t9": "t1"})


def test_what_archives_leave_beside_the_files_is_not_read(tmp_path):
    make_decathlon(tmp_path, cases=2, nnunet=True)
    (tmp_path / "imagesTr" / "._case_000_0000.nii.gz").write_bytes(b"of another system")
    assert len(everything(source(tmp_path))) == 2


def test_a_changed_added_or_removed_file_changes_the_fingerprint_and_a_seed_does_not(tmp_path):
    make_decathlon(tmp_path, cases=2, nnunet=True)
    seen = [source(tmp_path).fingerprint()]
    assert source(tmp_path, seed=2).fingerprint() == seen[0]
    save(tmp_path / "labelsTr" / "case_000.nii.gz", np.ones((20, 24, 1), np.uint8))
    seen.append(source(tmp_path).fingerprint())
    (tmp_path / "labelsTr" / "case_000.nii.gz").unlink()
    seen.append(source(tmp_path).fingerprint())
    save(tmp_path / "imagesTr" / "case_009_0000.nii.gz", np.ones((20, 24, 1), np.uint8))
    assert len({*seen, source(tmp_path).fingerprint()}) == 4


def test_volumes_in_another_direction_come_in_ours_with_their_labels(tmp_path):
    make_decathlon(tmp_path, cases=1, size=(20, 12, 8))
    (straight,) = everything(source(tmp_path, size=(8, 8, 8)))
    for path in (tmp_path / "imagesTr" / "case_000.nii.gz", tmp_path / "labelsTr" / "case_000.nii.gz"):
        volume = nib.load(path)
        nib.save(
            nib.Nifti1Image(np.asarray(volume.dataobj), volume.affine).as_reoriented([[2, -1], [0, 1], [1, -1]]), path
        )
    (turned,) = everything(source(tmp_path, size=(8, 8, 8)))
    assert turned.spacing_mm == straight.spacing_mm == (3.0, 2.0, 1.0)
    assert all(np.array_equal(turned.channels[c], straight.channels[c]) for c in straight.channels)


def test_the_real_hippocampi_of_the_decathlon_are_read(tmp_path):
    folder = real("hippocampus")
    table = pd.read_csv(folder / "manifest.csv")
    for ours, theirs in (("imagesTr", "images"), ("labelsTr", "labels")):
        (tmp_path / ours).symlink_to(folder / theirs)
    training = [{"image": f"./imagesTr/{s}.nii.gz", "label": f"./labelsTr/{s}.nii.gz"} for s in table["subject"]]
    about = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": training,
    }
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    asked = {"mr": "image", "Anterior": "mask", "Posterior": "mask"}
    records = everything(source(tmp_path, asked, size=(16, 24, 16)))
    assert len(records) == 65
    assert all(not r.problem and r.spacing_mm == (1.0, 1.0, 1.0) for r in records)
    assert all(100 < r.channels[m].sum() < 5000 for r in records for m in ("Anterior", "Posterior"))
    assert not any((r.channels["Anterior"] * r.channels["Posterior"]).any() for r in records)
