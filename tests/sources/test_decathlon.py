"""The Decathlon's and nnU-Net's folders: channels by name, masks by value and name, labels of a table and of masks,
slices, and what can be wrong.
"""

import gzip
import json
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from fedsynth.data import images, reading
from fedsynth.data.manifest import SetError
from fedsynth.params import Image, ParamsError
from fedsynth.sources.decathlon import Decathlon
from tests.layouts import LABELS, draw, make_decathlon, marked, save, volume
from tests.realdata import real

ONE = {"kind": "iid", "sites": ["here"]}
TWO = {"t1": "image", "t2": "image", "lesion": "mask"}
BOTH = pytest.mark.parametrize("nnunet", [False, True], ids=["decathlon", "nnunet"])


def source(folder, asked=None, names=("x",), empty=(), size=(8, 8), seed=1, image=None, **args):
    asked = asked or {"t1": "image", "lesion": "mask"}
    made = Image(size=size, channels=asked, labels=list(names), empty_labels=list(empty), **image or {})
    return Decathlon(made, seed, str(folder), **{"partition": ONE} | args)


def everything(decathlon):
    return [r for site in decathlon.sites() for r in decathlon.records(site)]


def problems(decathlon):
    """What is wrong with each image, as ingest finds it."""
    found = []
    for record in everything(decathlon):
        try:
            if not record.problem:
                images.fit(record, decathlon.image)
        except SetError as error:
            record.problem = str(error)
        found.append(record.problem)
    return found


def areas(decathlon):
    return [[int(r.channels[m].sum()) for m in decathlon.image.masks] for r in everything(decathlon)]


def pixels(path):
    return reading.read(path, 2).values


def about(folder, **said):
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


@BOTH
def test_both_layouts_give_the_same_records(tmp_path, nnunet):
    make_decathlon(tmp_path, cases=3, channels=("t1", "t2"), nnunet=nnunet)
    records = everything(source(tmp_path, TWO))
    make_decathlon(tmp_path / "plain", cases=3, channels=("t1", "t2"))
    expected = pixels(tmp_path / "plain" / "imagesTr" / "case_001.nii.gz")
    assert [r.subject for r in records] == ["case_000", "case_001", "case_002"]
    assert np.array_equal([records[1].channels["t1"], records[1].channels["t2"]], expected)
    assert [int(r.channels["lesion"].sum()) for r in records] == [0, 24, 48]
    assert all(not r.problem and r.spacing_mm == (2.0, 1.0) for r in records)


@BOTH
def test_channels_go_by_their_name_and_not_by_their_place(tmp_path, nnunet):
    make_decathlon(tmp_path, cases=2, channels=("t1", "t2"), nnunet=nnunet)
    straight, turned = (
        everything(source(tmp_path, dict.fromkeys(order, "image")))[0].channels
        for order in (("t1", "t2"), ("t2", "t1"))
    )
    assert np.array_equal(straight["t1"], turned["t1"])
    assert not np.array_equal(straight["t1"], straight["t2"])
    assert np.array_equal(straight["t2"], everything(source(tmp_path, {"t2": "image"}))[0].channels["t2"])
    for said in ("t2", "T2", 1, "1"):
        renamed = everything(source(tmp_path, {"mr": "image"}, channels={"mr": said}))[0].channels["mr"]
        assert np.array_equal(straight["t2"], renamed)


@BOTH
def test_names_of_channels_match_whatever_their_case_hyphens_and_order(tmp_path, nnunet):
    make_decathlon(tmp_path, cases=1, channels=("T1", "T1-ce", "T2", "Flair"), nnunet=nnunet)
    (record,) = everything(source(tmp_path, dict.fromkeys(["flair", "t1", "t1_ce", "t2"], "image")))
    for place, name in enumerate(["t1", "t1_ce", "t2", "flair"]):
        assert np.array_equal(record.channels[name], volume(place)[:, :, 0].T)


@BOTH
def test_a_channel_that_no_name_matches_is_refused_with_all_names(tmp_path, nnunet):
    make_decathlon(tmp_path, cases=1, channels=("FLAIR", "T1w", "t1gd", "T2w"), nnunet=nnunet)
    said = r"dataset\.json has no channel 't1', it has 'FLAIR', 'T1w', 't1gd', 'T2w'; say which is meant: source\.args"
    for asked in ({"t1": "image"}, dict.fromkeys(["t1", "t2", "t3", "t4"], "image")):
        with pytest.raises(SetError, match=said):
            everything(source(tmp_path, asked))
    about(tmp_path, **{"channel_names" if nnunet else "modality": {"0": "MR", "1": "MR", "2": "x", "3": "y"}})
    with pytest.raises(SetError, match=r"has several channels 'mr'; say which number is meant: .*channels: \{mr: 0\}"):
        everything(source(tmp_path, {"mr": "image"}))
    second = everything(source(tmp_path, {"mr": "image"}, channels={"mr": 1}))[0]
    assert np.array_equal(second.channels["mr"], volume(1)[:, :, 0].T)


def test_the_only_channel_may_have_another_name_and_that_is_noted(tmp_path):
    make_decathlon(tmp_path, cases=1, channels=("CT",))
    (record,) = everything(source(tmp_path))
    assert record.notes == ["t1 is 'CT', the only channel of dataset.json"]
    with pytest.raises(SetError, match="has no channel 't1', it has 'CT'"):
        everything(source(tmp_path, channels={"t1": "T1w"}))
    with pytest.raises(SetError, match="has no channel 't2', it has 'CT'"):
        everything(source(tmp_path, {"ct": "image", "t2": "image"}))
    assert "has 1 planes" in everything(source(tmp_path, {"a": "image", "b": "image"}))[0].problem


@pytest.mark.parametrize("said", [{"0": "t1", "1": "t2"}, {"t1": 0, "t2": "1"}, ["t1", "t2"]], ids=str)
def test_channels_are_understood_in_every_writing(tmp_path, said):
    make_decathlon(tmp_path, cases=1, channels=("t1", "t2"), nnunet=True)
    about(tmp_path, channel_names=said)
    (record,) = everything(source(tmp_path, {"t2": "image"}))
    assert np.array_equal(record.channels["t2"], volume(1)[:, :, 0].T)
    about(tmp_path, channel_names={"first": "t1"})
    with pytest.raises(SetError, match=r'dataset\.json: channel_names must be \{"0": name, "1": name\}, not \{"first"'):
        everything(source(tmp_path, {"t2": "image"}))


def test_masks_are_values_by_name_by_argument_or_all(tmp_path):
    make_decathlon(tmp_path, cases=3)
    third = {  # (1, 2) is marked in it, four rows of six pixels each
        "all": source(tmp_path),
        "by name": source(tmp_path, {"t1": "image", "core": "mask", "halo": "mask"}),
        "whatever its case": source(tmp_path, {"t1": "image", "Core": "mask", "HALO": "mask"}),
        "by argument": source(tmp_path, masks={"lesion": 2}),
        "as texts": source(tmp_path, masks={"lesion": ["2"]}),
        "two of one": source(tmp_path, {"t1": "image", "a": "mask", "b": "mask"}, masks={"a": [1, 2], "b": [2]}),
    }
    assert {k: areas(s)[2] for k, s in third.items()} == {
        "all": [48], "by name": [24, 24], "whatever its case": [24, 24], "by argument": [24], "as texts": [24],
        "two of one": [48, 24],
    }  # fmt: skip
    with pytest.raises(
        SetError, match=r"dataset\.json has no label 'edge', it has background, core, halo; .*args\.masks"
    ):
        everything(source(tmp_path, {"t1": "image", "core": "mask", "edge": "mask"}))
    with pytest.raises(
        ParamsError, match=r"source\.args\.masks\.lesion: must be values of the label files, not \['two'"
    ):
        everything(source(tmp_path, masks={"lesion": ["two"]}))


def relabel(folder, change, dtype=np.float32):
    """Every label file with other values."""
    for path in (folder / "labelsTr").iterdir():
        save(path, change(np.asarray(nib.load(path).dataobj)).astype(dtype))


@pytest.mark.parametrize("by_mask", [None, {"none": [], "core": [1], "halo": [2]}])
def test_label_values_near_an_integer_are_that_integer_and_others_are_refused(tmp_path, by_mask):
    make_decathlon(tmp_path, cases=3)
    args = {"names": list(by_mask), "by_mask": by_mask} if by_mask else {}
    asked = {"t1": "image", "core": "mask", "halo": "mask"}
    relabel(tmp_path, lambda values: values * 0.99999)
    assert areas(source(tmp_path, asked, **args)) == [[0, 0], [24, 0], [24, 24]]
    if by_mask:
        assert [r.label for r in everything(source(tmp_path, asked, **args))] == ["none", "core", "halo"]
    relabel(tmp_path, lambda values: values * 0.97)
    _, second, third = problems(source(tmp_path, asked, **args))
    assert re.search(r"case_001\.nii\.gz holds the label value 0\.9\S* and 23 more, which is no integer", second)
    assert "case_002.nii.gz holds" in third


def test_label_values_are_those_that_the_header_scales_them_to(tmp_path):
    make_decathlon(tmp_path, cases=2)
    for path in (tmp_path / "labelsTr").iterdir():
        file = nib.load(path)
        stored = nib.Nifti1Image((np.asarray(file.dataobj) * 255).astype(np.int16), file.affine)
        stored.header.set_slope_inter(0.003921, 0)
        nib.save(stored, path)
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[112:116] = np.float32(0.003921).tobytes()  # nibabel writes a slope of its own
        path.write_bytes(gzip.compress(bytes(raw)))
    assert areas(source(tmp_path, {"t1": "image", "core": "mask"})) == [[0], [24]]


def test_numbers_in_dataset_json_may_be_texts(tmp_path):
    make_decathlon(tmp_path, cases=3, nnunet=True, labels={"background": "0", "core": "1", "halo": ["2"]})
    assert areas(source(tmp_path, {"t1": "image", "core": "mask", "halo": "mask"}))[2] == [24, 24]
    about(tmp_path, labels={"background": 0, "core": "one"})
    with pytest.raises(SetError, match=r'dataset\.json: labels: "core" has the value "one", which is no whole number'):
        everything(source(tmp_path))
    about(tmp_path, labels=["background", "core"])
    with pytest.raises(SetError, match="labels must be an object of names and values"):
        everything(source(tmp_path))


def test_two_values_of_one_name_are_both_that_label(tmp_path):
    make_decathlon(tmp_path, cases=3, labels={"0": "background", "1": "tumour", "2": "tumour"})
    assert areas(source(tmp_path, {"t1": "image", "tumour": "mask"})) == [[0], [24], [48]]


def test_regions_of_nnunet_are_masks_that_overlap(tmp_path):
    make_decathlon(tmp_path, cases=3, nnunet=True, labels={"background": 0, "whole": [1, 2], "halo": 2})
    assert areas(source(tmp_path, {"t1": "image", "whole": "mask", "halo": "mask"}))[2] == [48, 24]
    assert areas(source(tmp_path)) == [[0], [24], [48]]


IGNORING = {"background": 0, "core": 1, "ignore": 2}


@pytest.mark.parametrize(
    "labels", [IGNORING, IGNORING | {"core": [1]}, {"0": "background", "1": "core", "2": "ignore"}]
)
def test_what_nnunet_ignores_is_never_marked_and_is_counted(tmp_path, labels):
    make_decathlon(tmp_path, cases=2, values=((2,), (1, 2)), nnunet=True, labels=labels)
    records = everything(source(tmp_path, names=["none", "tumour"], empty=["none"]))
    assert [r.label for r in records] == ["none", "tumour"]
    assert [int(r.channels["lesion"].sum()) for r in records] == [0, 24]
    assert records[0].notes == ["labelsTr/case_000.nii.gz: 24 voxels are `ignore` (2) and not marked"]
    for args in ({"masks": {"lesion": [1, 2]}}, {"by_mask": {"x": [2]}}):
        with pytest.raises(ParamsError, match=r"source\.args\.\S+: 2 is the value of `ignore` in dataset\.json"):
            everything(source(tmp_path, **args))


@pytest.mark.parametrize(
    ("labels", "said"),
    [(IGNORING | {"ignore": [2, 3]}, "must be one value"), (IGNORING | {"ignore": 1}, "and 'core' have")],
)
def test_an_ignored_value_that_is_a_label_too_is_refused(tmp_path, labels, said):
    make_decathlon(tmp_path, cases=2, nnunet=True, labels=labels)
    with pytest.raises(SetError, match=rf"dataset\.json: labels: `ignore` {said}"):
        everything(source(tmp_path))


def test_a_value_that_nobody_names_is_not_marked_and_said_and_alone_it_is_refused(tmp_path):
    make_decathlon(tmp_path, cases=3, values=((1,), (1, 2), (2,)), labels={"0": "background", "1": "core"})
    named, both, alone = everything(source(tmp_path))
    assert not named.warnings
    assert int(both.channels["lesion"].sum()) == 24
    assert both.warnings == [
        "labelsTr/case_001.nii.gz has the values 2, which dataset.json does not name (it has 0, 1); they are not marked"
    ]
    assert "case_002.nii.gz has the values 2, which dataset.json does not name" in alone.problem
    assert areas(source(tmp_path, masks={"lesion": [2]})) == [[0], [24], [24]]


def pictures(folder, cases=2, palette=False, ending="png", names=("gray",), size=(20, 24)):
    """nnU-Net's folder of pictures: cores of 24 and halos of 36 pixels."""
    rng = np.random.default_rng(0)
    for i in range(cases):
        shape = (*size, 3) if len(names) == 3 else size
        draw(folder / "imagesTr" / f"c{i}_0000.{ending}", rng.integers(0, 256, shape, np.uint8))
        labels = np.zeros(size, np.uint8)
        labels[2:6, 2:8], labels[10:16, 2:8] = 1, 2
        draw(folder / "labelsTr" / f"c{i}.{ending}", labels, palette)
    said = {"channel_names": dict(enumerate(names)), "labels": {"background": 0, "core": 1, "halo": 2}}
    (folder / "dataset.json").write_text(json.dumps(said | {"file_ending": f".{ending}", "numTraining": cases}))
    return folder


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_labels_in_pictures_are_values_and_places_in_a_palette(tmp_path, palette, ending):
    pictures(tmp_path, palette=palette, ending=ending)
    assert areas(source(tmp_path, {"gray": "image", "core": "mask", "halo": "mask"})) == [[24, 36]] * 2
    assert areas(source(tmp_path, {"gray": "image", "lesion": "mask"})) == [[60]] * 2


def test_a_label_that_fills_its_picture_is_no_inverted_mask(tmp_path):
    pictures(tmp_path, cases=1)
    labels = np.ones((20, 24), np.uint8)
    labels[8:12, 8:12] = 0
    draw(tmp_path / "labelsTr" / "c0.png", labels)
    (record,) = everything(source(tmp_path, {"gray": "image", "core": "mask"}))
    assert int(record.channels["core"].sum()) == 20 * 24 - 16
    assert "marks 100% of its border" in record.warnings[0]


def test_a_label_file_in_colours_or_with_loss_is_refused_and_a_gray_one_in_colours_is_not(tmp_path):
    pictures(tmp_path, cases=3)
    labels = pixels(tmp_path / "labelsTr" / "c0.png")[0].astype(np.uint8)
    draw(tmp_path / "labelsTr" / "c0.png", np.stack([labels, labels, labels], -1))
    draw(tmp_path / "labelsTr" / "c1.png", np.stack([labels, labels * 0, labels], -1))
    draw(tmp_path / "labelsTr" / "c2.jpg", labels * 100).rename(tmp_path / "labelsTr" / "c2.png")
    first, second, third = everything(source(tmp_path, {"gray": "image", "core": "mask"}))
    assert int(first.channels["core"].sum()) == 24
    assert "labelsTr/c1.png is in 3 colours; save label files as gray or palette PNG" in second.problem
    assert "labelsTr/c2.png is lossy" in third.problem


def test_a_mask_of_255_where_dataset_json_says_1_does_not_vanish(tmp_path):
    pictures(tmp_path, cases=1)
    draw(tmp_path / "labelsTr" / "c0.png", marked((255,))[:, :, 0])
    (record,) = everything(source(tmp_path, {"gray": "image", "core": "mask"}))
    assert "has the values 255, which dataset.json does not name (it has 0, 1, 2)" in record.problem
    assert areas(source(tmp_path, {"gray": "image", "core": "mask"}, masks={"core": 255})) == [[24]]


@pytest.mark.parametrize("names", [("R", "G", "B"), ("red", "green", "blue")])
def test_a_colour_picture_has_its_planes_by_name_or_as_a_conversion_says(tmp_path, names):
    pictures(tmp_path, cases=1, names=names)
    expected = pixels(tmp_path / "imagesTr" / "c0_0000.png")
    (record,) = everything(source(tmp_path, dict.fromkeys(["blue", "red"], "image")))
    assert np.array_equal([record.channels["red"], record.channels["blue"]], expected[[0, 2]])
    assert record.ranges["red"] == (0.0, 255.0)
    (gray,) = everything(source(tmp_path, {"gray": {"image": "luminance", "of": ["rgb"]}}))
    assert np.allclose(gray.channels["gray"], np.tensordot([0.299, 0.587, 0.114], expected, 1), atol=1e-3)
    (refused,) = everything(source(tmp_path, {"gray": "image"}))
    assert "imagesTr/c0_0000.png has no channel 'gray'" in refused.problem


def test_a_volume_of_one_plane_is_gray_to_a_conversion_and_to_nothing_else(tmp_path):
    make_decathlon(tmp_path, cases=1, channels=("CT",))
    names = ["red", "green", "blue"]
    (refused,) = everything(source(tmp_path, dict.fromkeys(names, "image")))
    assert "imagesTr/case_000.nii.gz has 1 planes" in refused.problem
    (copied,) = everything(source(tmp_path, {name: {"image": "copy", "of": ["gray"]} for name in names}))
    assert all(np.array_equal(copied.channels[name], volume(0)[:, :, 0].T) for name in names)


def test_a_picture_with_fewer_planes_than_channels_is_refused(tmp_path):
    pictures(tmp_path, cases=1)
    about(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"})
    (record,) = everything(source(tmp_path, {"red": "image"}))
    assert "imagesTr/c0_0000.png has 1 channels, dataset.json names R, G, B" in record.problem


@pytest.mark.parametrize("said", [".npy", "npy", None])
def test_the_ending_of_files_is_the_one_that_is_said_or_the_only_one(tmp_path, said):
    for name, array in (("imagesTr/c0_0000", volume(0)[:, :, 0]), ("labelsTr/c0", marked((1,))[:, :, 0])):
        (tmp_path / name).parent.mkdir()
        np.save(tmp_path / f"{name}.npy", array)
    text = {"channel_names": {"0": "t1"}, "labels": {"core": 1}} | ({"file_ending": said} if said else {})
    (tmp_path / "dataset.json").write_text(json.dumps(text))
    assert areas(source(tmp_path)) == [[24]]


def test_two_kinds_of_images_are_refused_unless_dataset_json_says_which(tmp_path):
    make_decathlon(tmp_path, cases=1, nnunet=True, file_ending=None)
    np.save(tmp_path / "imagesTr" / "case_000_0000.npy", np.zeros((8, 8)))
    with pytest.raises(
        SetError, match=r"holds case_000_0000\.nii\.gz and case_000_0000\.npy; say in dataset\.json which"
    ):
        everything(source(tmp_path))
    about(tmp_path, file_ending=".nii.gz")
    assert problems(source(tmp_path)) == [""]
    about(tmp_path, file_ending=3)
    with pytest.raises(SetError, match=r"file_ending must be a text like \.nii\.gz, not 3"):
        everything(source(tmp_path))


def listed(folder, *entries, **said):
    about(
        folder, training=[{"image": f"./{image}", "label": label and f"./{label}"} for image, label in entries], **said
    )


def test_the_list_says_where_image_and_label_are(tmp_path):
    make_decathlon(tmp_path, cases=1)
    (tmp_path / "imagesTr" / "case_000.nii.gz").rename(tmp_path / "imagesTr" / "c0_img.nii.gz")
    save(tmp_path / "labelsTr" / "c0_seg.nii.gz", marked((1, 2)))
    save(tmp_path / "labelsTr" / "c0_img.nii.gz", marked((1,)))  # not the one of the list
    listed(tmp_path, ("imagesTr/c0_img.nii.gz", "labelsTr/c0_seg.nii.gz"))
    (record,) = everything(source(tmp_path))
    assert record.subject == "c0_img"
    assert int(record.channels["lesion"].sum()) == 48
    seen = source(tmp_path).fingerprint()
    save(tmp_path / "labelsTr" / "c0_seg.nii.gz", marked((1,)))
    assert source(tmp_path).fingerprint() != seen
    (tmp_path / "labelsTr" / "c0_seg.nii.gz").unlink()
    assert problems(source(tmp_path)) == ["c0_seg.nii.gz is not there"]


def test_where_the_list_names_no_label_two_files_that_could_be_meant_are_refused(tmp_path):
    make_decathlon(tmp_path, cases=2)
    about(tmp_path, training=[f"./imagesTr/case_00{i}.nii.gz" for i in range(2)])
    assert areas(source(tmp_path)) == [[0], [24]]
    save(tmp_path / "labelsTr" / "case_001.nii", marked((1, 2)))
    first, second = problems(source(tmp_path))
    assert not first
    assert "imagesTr/case_001.nii.gz may be case_001.nii or case_001.nii.gz; name it in dataset.json" in second


@pytest.mark.parametrize("image", [{"unmarked": "healthy"}, {}])
def test_a_label_file_of_no_image_is_not_passed_over(tmp_path, image):
    make_decathlon(tmp_path, cases=2, nnunet=True)
    (tmp_path / "labelsTr" / "case_001.nii.gz").rename(tmp_path / "labelsTr" / "case_001_seg.nii.gz")
    first, second = problems(source(tmp_path, image=image))
    assert not first
    assert "case_001_0000.nii.gz has no labelsTr/case_001.nii.gz, and labelsTr holds case_001_seg.nii.gz" in second


def test_images_of_one_name_in_two_folders_are_two_cases(tmp_path):
    make_decathlon(tmp_path, cases=1)
    for i, place in enumerate("ab"):
        save(tmp_path / place / "c0.nii.gz", volume(i))
        save(tmp_path / place / "seg.nii.gz", marked((1,) * (i + 1)))
    listed(tmp_path, ("a/c0.nii.gz", "a/seg.nii.gz"), ("b/c0.nii.gz", "b/seg.nii.gz"))
    records = everything(source(tmp_path))
    assert [(r.subject, int(r.channels["lesion"].sum())) for r in records] == [("a/c0", 24), ("b/c0", 48)]


def test_an_image_that_is_listed_twice_is_refused(tmp_path):
    make_decathlon(tmp_path, cases=2)
    listed(
        tmp_path, ("imagesTr/case_000.nii.gz", "labelsTr/a.nii.gz"), ("imagesTr/case_000.nii.gz", "labelsTr/b.nii.gz")
    )
    with pytest.raises(
        SetError, match=r"case_000\.nii\.gz is listed twice, with the labels labelsTr/a\S+ and labelsTr/b"
    ):
        everything(source(tmp_path))
    about(tmp_path, training=[{"label": "labelsTr/case_000.nii.gz"}])
    with pytest.raises(SetError, match=r"dataset\.json: training: entry 1 must be \{image: file, label: file\}"):
        everything(source(tmp_path))


@pytest.mark.parametrize("name", ["case_000", "case_000_0000"])
def test_a_list_may_name_one_file_for_those_of_all_channels(tmp_path, name):
    make_decathlon(tmp_path, cases=1, channels=("t1", "t2"), nnunet=True)
    listed(tmp_path, (f"imagesTr/{name}.nii.gz", "labelsTr/case_000.nii.gz"))
    (record,) = everything(source(tmp_path, TWO))
    assert record.subject == "case_000"
    assert np.array_equal(record.channels["t2"], volume(1)[:, :, 0].T)


def test_lists_of_validation_and_test_images_with_labels_are_their_splits(tmp_path):
    make_decathlon(tmp_path, cases=4)
    of = [{"image": f"imagesTr/case_00{i}.nii.gz", "label": f"labelsTr/case_00{i}.nii.gz"} for i in range(4)]
    about(tmp_path, training=of[:2], validation=of[2:3], test=["imagesTs/case_9.nii.gz", of[3]])
    assert [(r.subject[-1], r.split) for r in everything(source(tmp_path))] == [
        ("0", ""), ("1", ""), ("2", "val"), ("3", "test"),
    ]  # fmt: skip


def cased(folder, said):
    about(folder, dataset=said)
    return source(folder, TWO)


def test_nnunets_dataset_names_files_wherever_they_are(tmp_path):
    make_decathlon(tmp_path, cases=1, channels=("t1", "t2"), nnunet=True)
    save(tmp_path / "scans" / "a.nii.gz", volume(5))
    save(tmp_path / "scans" / "b.nii.gz", volume(6))
    save(tmp_path / "segs" / "p.nii.gz", marked((1,)))
    files = ["scans/a.nii.gz", "scans/b.nii.gz"]
    (record,) = everything(cased(tmp_path, {"p1": {"images": files, "label": "segs/p.nii.gz"}}))
    assert (record.subject, int(record.channels["lesion"].sum())) == ("p1", 24)
    assert np.array_equal(record.channels["t2"], volume(6)[:, :, 0].T)
    for said, wrong in {
        "has 3 images for 2 channels": {"images": [*files, files[0]], "label": ""},
        "must be {images: [files], label: file}": files,
        "leads out of its folder": {"images": ["/etc/a.nii.gz", "b"], "label": ""},
    }.items():
        with pytest.raises(SetError, match=re.escape(said)):
            everything(cased(tmp_path, {"p1": wrong}))
    whole = {"p1": {"images": files, "label": "segs/p.nii.gz"}}
    about(tmp_path, training=[{"image": files[0], "label": "labelsTr/case_000.nii.gz"}])
    with pytest.raises(
        SetError, match=r"'p1' has the label segs/p\S+ in `dataset`, labelsTr/case_000\S+ in `training`"
    ):
        everything(cased(tmp_path, whole))


def test_a_modality_that_may_be_lacking_is_absent_and_another_is_a_problem(tmp_path):
    make_decathlon(tmp_path, cases=3, channels=("t1", "t2"), nnunet=True)
    (tmp_path / "imagesTr" / "case_000_0001.nii.gz").unlink()
    (tmp_path / "imagesTr" / "case_001_0000.nii.gz").unlink()
    lacking, other, complete = everything(source(tmp_path, TWO, image={"may_lack": ["t2"]}))
    assert list(lacking.channels) == ["t1", "lesion"]
    assert not lacking.problem
    assert "case_001_0001.nii.gz: the file of its channel 't1', _0000, is not there" in other.problem
    assert list(complete.channels) == ["t1", "t2", "lesion"]
    site = source(tmp_path, {"t1": "image", "flair": "image"}, image={"may_lack": ["flair"]})  # has no such scanner
    assert list(everything(site)[2].channels) == ["t1"]


def test_nnunets_dataset_may_have_null_for_a_modality_that_is_lacking(tmp_path):
    make_decathlon(tmp_path, cases=1, channels=("t1", "t2"), nnunet=True)
    files = {"images": ["imagesTr/case_000_0000.nii.gz", None], "label": "labelsTr/case_000.nii.gz"}
    about(tmp_path, dataset={"p1": files})
    (record,) = everything(source(tmp_path, TWO, image={"may_lack": ["t2"]}))
    assert list(record.channels) == ["t1", "lesion"]
    assert "the file of its channel 't2', _0001, is not there" in everything(source(tmp_path, TWO))[0].problem


def test_an_image_without_a_label_file_has_an_unknown_mask(tmp_path):
    make_decathlon(tmp_path, cases=2, nnunet=True)
    (tmp_path / "labelsTr" / "case_001.nii.gz").unlink()
    _, second = everything(source(tmp_path))
    assert "lesion" not in second.channels
    assert problems(source(tmp_path)) == ["", ""]
    healthy = source(tmp_path, names=["none", "ill"], empty=["none"], image={"unmarked": "healthy"})
    assert [r.label for r in everything(healthy)] == ["none", "none"]
    assert problems(healthy) == ["", ""]
    (_, unknown) = problems(source(tmp_path, names=["none", "ill"], empty=["none"]))
    assert "case_001_0000.nii.gz has no label file, and its label is told by that" in unknown


@pytest.mark.parametrize("what", ["labelsTr/case_000.nii.gz", "imagesTr/case_000_0001.nii.gz"])
def test_a_file_on_another_grid_is_refused_with_both_grids_or_resampled(tmp_path, what):
    make_decathlon(tmp_path, cases=2, channels=("t1", "t2"), nnunet=True, size=(20, 24, 9))
    array = np.asarray(nib.load(tmp_path / what).dataobj)
    for origin, spacing in (((0.0, 6.0, 0.0), (1.0, 2.0, 3.0)), ((0.0, 0.0, 0.0), (1.0, 1.0, 3.0))):
        save(tmp_path / what, array, spacing, origin)
        first, second = problems(source(tmp_path, TWO, size=(8, 8, 8)))
        assert not second
        assert re.search(r"lies on another grid than 't1'.* 9x24x20 voxels of 3x\dx1 mm from .* 9x24x20 voxels", first)
        assert "image.grid: {onto: t1}" in first
        assert problems(source(tmp_path, TWO, size=(8, 8, 8), image={"grid": {"onto": "t1"}})) == ["", ""]
    save(tmp_path / what, array[:-1])
    assert "lies on another grid" in problems(source(tmp_path, TWO, size=(8, 8, 8)))[0]


def test_a_mask_with_the_other_axes_mirrored_lies_where_its_affine_says(tmp_path):
    make_decathlon(tmp_path, cases=1, size=(20, 24, 9), values=((1,),))
    path = tmp_path / "labelsTr" / "case_000.nii.gz"
    (straight,) = everything(source(tmp_path, size=(8, 8, 8)))
    file = nib.load(path)
    nib.save(file.as_reoriented([[0, -1], [1, -1], [2, 1]]), path)
    (turned,) = everything(source(tmp_path, size=(8, 8, 8)))
    assert np.array_equal(straight.channels["lesion"], turned.channels["lesion"])
    assert problems(source(tmp_path, size=(8, 8, 8))) == [""]


@pytest.mark.parametrize("size", [(20, 24, 1), (20, 24, 9)])
def test_a_label_file_that_lost_its_geometry_is_refused_even_where_resampling_is_allowed(tmp_path, size):
    make_decathlon(tmp_path, cases=2, size=size, nnunet=True)
    for kind in ("imagesTr", "labelsTr"):
        for path in (tmp_path / kind).iterdir():
            save(path, np.asarray(nib.load(path).dataobj), (1.0, 1.0, 1.0))
    path = tmp_path / "labelsTr" / "case_001.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), np.eye(4)), path)
    for grid in ({}, {"grid": {"onto": "t1"}}):
        first, second = problems(source(tmp_path, size=(8,) * (2 + (size[2] > 1)), image=grid))
        assert not first
        assert "the mask 'lesion' has an identity affine" in second


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
            "split": ["train", "", "test", ""] * 2,
        }
    )
    cases.to_csv(tmp_path / "other.csv", index=False)
    decathlon = source(tmp_path, names=["a"], table=str(tmp_path / "other.csv"), labels={"b": None})
    records = everything(decathlon)
    assert [(r.subject, r.split) for r in records if not r.problem] == [
        ("p0", "train"), ("p1", "test"), ("p2", "train"), ("p3", "test"),
    ]  # fmt: skip
    (lost,) = [r for r in records if r.problem]
    assert "case_008.nii.gz has no row in other.csv" in lost.problem


def test_cases_are_left_out_by_their_name_their_label_and_columns_of_the_table(tmp_path):
    make_decathlon(tmp_path, table=True)
    names = [f"case_{i:03d}" for i in range(9)]
    for table, exclude, there in (
        ("", {"case": names[2:]}, ["case_000", "case_001"]),
        ("cases.csv", {"label": list(LABELS[:2]), "subject": "case_002"}, ["case_005", "case_008"]),
        ("scans.csv", {"scanner": [3]}, names[:3] + names[4:]),
    ):
        pd.DataFrame({"case": names, "label": LABELS[0], "scanner": range(9)}).to_csv(tmp_path / "scans.csv")
        names_of = LABELS if table else ["x"]
        found = everything(source(tmp_path, names=names_of, table=table, exclude=exclude))
        assert [r.subject for r in found] == there
    with pytest.raises(SetError, match=r"has no column 'scaner', which source\.args\.exclude names; .* 'scanner'"):
        everything(source(tmp_path, names=LABELS, table="scans.csv", exclude={"scaner": [3]}))
    few = everything(source(tmp_path, names=LABELS, table="cases.csv", at_most=2))
    assert sorted(r.label for r in few) == sorted(LABELS * 2)


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
    two = {"names": ["ill", "well"], "empty": ["well"]}
    assert [r.label for r in everything(source(tmp_path, **two))] == ["well", "ill", "ill"]
    # marked is what marks a mask channel: the core is healthy tissue to this one
    halo = source(tmp_path, {"t1": "image", "halo": "mask"}, **two)
    assert [r.label for r in everything(halo)] == ["well", "well", "ill"]
    rule = {"none": [], "core": [1], "halo": ["2"]}
    assert [r.label for r in everything(source(tmp_path, names=list(rule), by_mask=rule))] == ["none", "core", "halo"]
    with pytest.raises(ParamsError, match=r"nothing says which an image has: give source\.args\.table, or by_mask"):
        everything(source(tmp_path, names=["a", "b", "c"]))


def test_an_image_of_which_by_mask_tells_no_label_is_a_problem(tmp_path):
    make_decathlon(tmp_path, cases=3)
    first, *others = everything(source(tmp_path, names=["core", "halo"], by_mask={"core": [1], "halo": [2]}))
    assert "labelsTr/case_000.nii.gz holds none of the values of source.args.by_mask" in first.problem
    assert [r.label for r in others] == ["core", "halo"]
    with pytest.raises(ParamsError, match=r"source\.args\.by_mask\.core: must be values"):
        everything(source(tmp_path, by_mask={"core": [None]}))


def test_a_partition_by_the_masks_labels_skews_them(tmp_path):
    make_decathlon(tmp_path, cases=6, values=((), (1,)))
    silos = source(tmp_path, names=["ill", "well"], empty=["well"], partition={"kind": "silos", "sites": 2})
    assert [{r.label for r in silos.records(site)} for site in silos.sites()] == [{"ill"}, {"well"}]


def make_stack(folder, **about):
    """A volume of 10 slices: a core in the slices 2 to 5, a halo from 4 to 5."""
    labels = np.zeros((20, 24, 10), np.uint8)
    labels[2:6, 2:8, 2:6], labels[10:12, 2:8, 4:6] = 1, 2
    make_decathlon(folder, cases=1, size=(20, 24, 10), nnunet=True, **about)
    save(folder / "labelsTr" / "case_000.nii.gz", labels)
    return folder


def test_an_image_may_be_a_slice_and_has_the_label_of_what_is_marked_in_it(tmp_path):
    make_stack(tmp_path)
    rule = {"none": [], "core": [1], "halo": [2]}
    cut = source(tmp_path, names=list(rule), by_mask=rule, slices={"every": 2, "least": 0})
    records = everything(cut)
    assert [r.label for r in records] == ["none", "core", "halo", "none", "none"]
    assert [int(r.channels["lesion"].sum()) for r in records] == [0, 24, 36, 0, 0]
    assert {(r.subject, r.spacing_mm) for r in records} == {("case_000", (2.0, 1.0))}
    assert [r.file for r in records][:2] == [f"imagesTr/case_000_0000.nii.gz [{n}]" for n in (0, 2)]
    assert all(list(r.channels) == ["t1", "lesion"] and r.volume is records[0].volume for r in records)
    whole = everything(source(tmp_path, size=(8, 8, 8)))[0].channels["t1"]
    assert np.array_equal(records[1].channels["t1"], whole[2])
    assert problems(cut) == [""] * 5
    renamed = source(
        tmp_path, names=["a"], by_mask=rule, labels={"none": None, "core": "a", "halo": "a"}, slices={"least": 0}
    )
    assert [r.label for r in everything(renamed)] == ["a"] * 4
    two = source(tmp_path, names=["well", "ill"], empty=["well"], slices={"axis": 2, "least": 0})
    assert [r.label for r in everything(two)][:6] == ["well"] * 2 + ["ill"] * 4


def test_slices_are_cut_after_the_mask_has_come_to_its_images_grid(tmp_path):
    make_stack(tmp_path)
    labels = np.asarray(nib.load(tmp_path / "labelsTr" / "case_000.nii.gz").dataobj)
    save(tmp_path / "labelsTr" / "case_000.nii.gz", labels, origin=(0.0, 0.0, 6.0))  # two slices up
    rule = {"none": [], "core": [1], "halo": [2]}
    args = {"names": list(rule), "by_mask": rule, "slices": {"least": 0}}
    (refused,) = problems(source(tmp_path, **args))
    assert "lies on another grid" in refused
    onto = source(tmp_path, image={"grid": {"onto": "t1"}}, **args)
    assert [r.label for r in everything(onto)] == ["none"] * 4 + ["core"] * 2 + ["halo"] * 2 + ["none"] * 2
    fine = source(tmp_path, image={"grid": {"spacing_mm": [1.5, 2, 1]}}, **args)
    assert [r.label for r in everything(fine)].count("core") == 4
    assert problems(fine) == [""] * 20


def test_a_volume_for_an_image_of_two_axes_asks_for_slices(tmp_path):
    make_decathlon(tmp_path, cases=1, size=(3, 24, 9))
    assert (
        "case_000.nii.gz is a volume of 9x24x3 voxels; image.size asks for 2 axes; source.args.slices"
        in (problems(source(tmp_path))[0])
    )
    with pytest.raises(ParamsError, match=r"source\.args\.slices: slices have two axes, image\.size is \[8, 8, 8\]"):
        source(tmp_path, size=(8, 8, 8), slices={})
    with pytest.raises(ParamsError, match=r"source\.args\.slices\.evry: .*did you mean 'every'"):
        source(tmp_path, slices={"evry": 2})


def test_a_volume_in_which_no_slice_shows_anything_is_a_problem(tmp_path):
    make_decathlon(tmp_path, cases=1, size=(20, 24, 9), nnunet=True)
    save(tmp_path / "imagesTr" / "case_000_0000.nii.gz", np.full((20, 24, 9), 7, np.int16))
    (record,) = everything(source(tmp_path, slices={}))
    assert "case_000_0000.nii.gz: none of its 9 slices shows anything" in record.problem


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "imagesTr" / "case_000.nii.gz").unlink(), r"case_000\.nii\.gz is not there"),
        (lambda f: (f / "imagesTr" / "case_000.nii.gz").write_bytes(b"no volume"), r"case_000\.nii\.gz cannot be read"),
        (lambda f: (f / "labelsTr" / "case_000.nii.gz").unlink(), r"case_000\.nii\.gz is not there"),
        (lambda f: save(f / "labelsTr" / "case_000.nii.gz", np.ones((20, 23, 1), np.uint8)),
         r"'lesion' lies on another grid than 't1'\. lesion: 23x20 voxels.* t1: 24x20 voxels"),
        (lambda f: save(f / "imagesTr" / "case_000.nii.gz", np.ones((20, 24, 3), np.float32)),
         "is a volume of 3x24x20 voxels; image.size asks for 2 axes"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_bad_record(tmp_path, spoil, said):
    make_decathlon(tmp_path, cases=3)
    spoil(tmp_path)
    first, *others = problems(source(tmp_path))
    assert re.search(said, first)
    assert others == ["", ""]


def test_files_and_dataset_json_name_the_same_channels(tmp_path):
    make_decathlon(tmp_path, cases=2, channels=("t1", "t2"), nnunet=True)
    (tmp_path / "imagesTr" / "case_000_0001.nii.gz").unlink()
    first, second = everything(source(tmp_path, {"t2": "image"}))
    assert "case_000_0000.nii.gz: the file of its channel 't2', _0001, is not there" in first.problem
    assert not second.problem
    save(tmp_path / "imagesTr" / "case_001_0002.nii.gz", volume(3))
    assert "case_001_0002.nii.gz: dataset.json names no channel 2" in problems(source(tmp_path, {"t2": "image"}))[1]
    make_decathlon(tmp_path / "one", cases=1, channels=("t1", "t2"))
    about(tmp_path / "one", modality={"0": "t1", "1": "t2", "2": "t3"})
    (short,) = everything(source(tmp_path / "one", {"t2": "image"}))
    assert "case_000.nii.gz has 2 channels, dataset.json names t1, t2, t3" in short.problem


def test_more_than_four_channels_on_a_fourth_axis_are_channels(tmp_path):
    names = tuple("abcdef")
    make_decathlon(tmp_path, cases=1, channels=names, size=(20, 24, 9))
    (record,) = everything(source(tmp_path, {"f": "image"}, size=(8, 8, 8)))
    assert np.array_equal(record.channels["f"], volume(5, (20, 24, 9)).transpose(2, 1, 0))


def test_a_dataset_json_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(SetError, match="must name the folder of the images"):
        source(tmp_path / "nowhere").fingerprint()
    with pytest.raises(SetError, match=r"dataset\.json cannot be read.*must hold dataset\.json, imagesTr and labelsTr"):
        source(tmp_path).fingerprint()
    for text in ("{", "[]"):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(SetError, match=r"dataset\.json"):
            source(tmp_path).fingerprint()
    for path in ("../../secret.nii.gz", "/secret.nii.gz", "C:\\secret.nii.gz", "a\\..\\..\\secret.nii.gz"):
        (tmp_path / "dataset.json").write_text(json.dumps({"training": [path]}))
        with pytest.raises(SetError, match="leads out of its folder"):
            source(tmp_path).fingerprint()
    (tmp_path / "dataset.json").write_text("\ufeff" + json.dumps({"training": []}), encoding="utf-8")
    with pytest.raises(SetError, match="holds no image that this source reads"):
        everything(source(tmp_path))
    make_decathlon(tmp_path, cases=1)
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "t1"}}))
    with pytest.raises(SetError, match=r"case_000\.nii\.gz: where dataset\.json lists no cases, .*_0000\.nii\.gz"):
        everything(source(tmp_path))


def test_arguments_that_make_no_sense_are_named(tmp_path):
    with pytest.raises(ParamsError, match=r"masks names \['tumour'\], image\.channels has \['lesion'\]"):
        source(tmp_path, masks={"tumour": 1})
    with pytest.raises(ParamsError, match=r"channels names \['t9'\]"):
        source(tmp_path, channels={"t9": "t1"})


def test_what_archives_leave_beside_the_files_is_not_read(tmp_path):
    make_decathlon(tmp_path, cases=2, nnunet=True)
    (tmp_path / "imagesTr" / "._case_000_0000.nii.gz").write_bytes(b"of another system")
    (tmp_path / "labelsTr" / "._case_000.nii.gz").write_bytes(b"of another system")
    assert problems(source(tmp_path)) == ["", ""]


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
    said = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": training,
    }
    (tmp_path / "dataset.json").write_text(json.dumps(said))
    asked = {"mr": "image", "Anterior": "mask", "Posterior": "mask"}
    records = everything(source(tmp_path, asked, size=(16, 24, 16)))
    assert len(records) == 65
    assert all(not r.problem and r.spacing_mm == (1.0, 1.0, 1.0) for r in records)
    assert all(100 < r.channels[m].sum() < 5000 for r in records for m in ("Anterior", "Posterior"))
    assert not any((r.channels["Anterior"] * r.channels["Posterior"]).any() for r in records)


def test_a_table_tells_sex_and_age_of_a_case_and_its_slices_have_them(tmp_path):
    make_decathlon(tmp_path)
    cases = sorted(r.file.split("/")[-1].split(".")[0] for r in everything(source(tmp_path, size=(8, 8, 8))))
    rows = pd.DataFrame({"case": cases, "label": "x", "sex": "F", "age": range(30, 30 + len(cases))})
    rows.to_csv(tmp_path / "people.csv", index=False)
    volumes = everything(source(tmp_path, size=(8, 8, 8), table="people.csv"))
    assert [(r.sex, r.age) for r in volumes] == [("F", str(30 + i)) for i in range(len(cases))]
    slices = everything(source(tmp_path, table="people.csv", slices={"axis": 0, "every": 1}))
    assert {(r.subject, r.sex, r.age) for r in slices} == {(r.subject, r.sex, r.age) for r in volumes}
