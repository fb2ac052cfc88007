"""MedMNIST's files: splits, labels, colour, volumes, checksums, partitions, and everything that can be wrong with a
file.
"""

import hashlib

import numpy as np
import pytest

from fedsynth.data.manifest import SetError
from fedsynth.data.planes import LUMINANCE
from fedsynth.params import Image, ParamsError
from fedsynth.sources.medmnist import MedMNIST
from fedsynth.stages.ingest import ingest
from tests.archives import COUNTS, make_npz
from tests.sets import tiny_params

NAMES = ["normal", "pneumonia", "other"]
TWO = {"kind": "iid", "sites": 2}


def source(path, channels=None, size=(16, 16), seed=1, **args):
    image = Image(size=size, channels=channels or {"xray": "image"}, labels=NAMES)
    return MedMNIST(image, seed, str(path), **{"labels": NAMES, "partition": TWO} | args)


def everything(medmnist):
    return [r for site in medmnist.sites() for r in medmnist.records(site)]


@pytest.fixture
def path(tmp_path):
    make_npz(tmp_path / "set.npz")
    return tmp_path / "set.npz"


def test_every_image_is_at_one_site_with_its_pixels_label_and_split(tmp_path):
    arrays = make_npz(tmp_path / "set.npz")
    records = everything(source(tmp_path / "set.npz"))
    assert len({r.subject for r in records}) == len(records) == sum(COUNTS.values())
    for record in records:
        _, name, place = record.file.split("/")
        assert np.array_equal(record.channels["xray"], arrays[name][int(place)].astype(np.float32))
        assert record.label == NAMES[arrays[name.replace("images", "labels")][int(place), 0]]
        assert name == f"{record.split}_images"


def test_the_official_splits_reach_the_manifest_and_hash_makes_others(path, tmp_path):
    found = {}
    for splits in ("official", "hash"):
        args = {"file": str(path), "labels": NAMES, "partition": TWO, "splits": splits}
        block = {"class_path": "fedsynth.sources.medmnist.MedMNIST", "args": args}
        image = {"channels": {"xray": "image"}, "labels": NAMES, "empty_labels": []}
        sets = ingest(tiny_params(source=block, image=image, split={"val": 0, "test": 0.9}), tmp_path / splits).values()
        assert all((rows["problem"] == "").all() for rows in sets)
        found[splits] = {split: sum(int((rows["split"] == split).sum()) for rows in sets) for split in COUNTS}
    assert found["official"] == COUNTS
    assert found["hash"]["test"] > 12
    assert found["hash"]["val"] == 0


@pytest.mark.parametrize("kind", ["dirichlet", "quantity"])
def test_a_partition_is_drawn_by_the_seed(path, kind):
    def sites(seed):
        medmnist = source(path, seed=seed, partition={"kind": kind, "sites": ["x", "y"], "alpha": 1.0})
        return [[r.file for r in medmnist.records(site)] for site in medmnist.sites()]

    assert sites(1) == sites(1) != sites(2)
    assert sum(map(len, sites(1))) == sum(COUNTS.values())


def test_labels_may_be_a_mapping_and_join_integers_and_without_them_are_the_integer(path):
    joined = everything(source(path, labels={"0": "benign", "1": "benign", "2": "malignant"}))
    plain = everything(source(path, labels=None))
    assert {(a.label, b.label) for a, b in zip(plain, joined, strict=True)} == {
        ("0", "benign"),
        ("1", "benign"),
        ("2", "malignant"),
    }


def test_colour_becomes_brightness_or_planes(tmp_path):
    arrays = make_npz(tmp_path / "set.npz", item=(20, 24, 3))
    with pytest.raises(SetError, match=r"_images/\d+ has no channel 'gray', .*gray: \{image: luminance, of: \[rgb\]"):
        everything(source(tmp_path / "set.npz", {"gray": "image"}))
    with pytest.raises(SetError, match="has no channel 't1', it has 'red', 'green', 'blue'"):
        everything(source(tmp_path / "set.npz", dict.fromkeys(("t1", "t2", "flair"), "image")))
    first = everything(source(tmp_path / "set.npz", {"gray": {"image": "luminance", "of": ["rgb"]}}))[0]
    name, place = first.file.split("/")[1:]
    rgb = arrays[name][int(place)]
    np.testing.assert_allclose(first.channels["gray"], rgb @ LUMINANCE, rtol=1e-5)
    planes = everything(source(tmp_path / "set.npz", {"r": "image", "g": "image", "b": "image"}))[0].channels
    assert all(np.array_equal(planes[c], rgb[..., i]) for i, c in enumerate("rgb"))


def test_brightness_keeps_its_range(path, tmp_path):
    args = {"file": str(path), "labels": NAMES, "partition": TWO}
    block = {"class_path": "fedsynth.sources.medmnist.MedMNIST", "args": args}
    image = {"channels": {"xray": "image"}, "labels": NAMES, "empty_labels": []}
    for rows in ingest(tiny_params(source=block, image=image), tmp_path / "sites").values():
        assert set(rows["scaled"]) == {"xray 0..255"}


def test_at_most_so_many_images_of_a_class_at_a_site_are_taken(path):
    medmnist = source(path, at_most=1)
    for site in medmnist.sites():
        assert sorted(r.label for r in medmnist.records(site)) == sorted(NAMES)


def test_null_leaves_a_class_out(path):
    records = everything(source(path, labels={0: "normal", 1: None, "2": "other"}))
    assert {r.label for r in records} == {"normal", "other"}


def test_one_file_is_not_two_channels(path):
    image = Image(size=(16, 16), channels={"t1": "image", "t2": "image"}, labels=NAMES)
    with pytest.raises(ParamsError, match="is named for t1 and t2"):
        everything(MedMNIST(image, 1, {"t1": str(path), "t2": str(path)}, NAMES, TWO))


def test_volumes_are_read_and_not_taken_for_colour(tmp_path):
    arrays = make_npz(tmp_path / "set.npz", item=(8, 10, 3))
    first = everything(source(tmp_path / "set.npz", size=(8, 8, 8)))[0]
    assert first.channels["xray"].shape == arrays["train_images"].shape[1:]
    make_npz(tmp_path / "set.npz", item=(8, 10, 12))
    with pytest.raises(
        SetError, match=r"set\.npz/\w+_images/\d+ has the shape \(8, 10, 12\); image\.size asks for 2 axes"
    ):
        everything(source(tmp_path / "set.npz"))


def test_masks_are_read_where_they_are_asked_for(tmp_path):
    make_npz(tmp_path / "set.npz", masks=True)
    for record in everything(source(tmp_path / "set.npz", {"xray": "image", "lesion": "mask"})):
        assert set(np.unique(record.channels["lesion"])) == ({0} if record.label == "normal" else {0, 1})
        assert record.mask_shape == (20, 24)
    assert everything(source(tmp_path / "set.npz"))[0].mask_shape is None
    with pytest.raises(SetError, match=r"train_masks has 1 masks .* \['a', 'b'\]"):
        everything(source(tmp_path / "set.npz", {"xray": "image", "a": "mask", "b": "mask"}))
    make_npz(tmp_path / "set.npz")
    with pytest.raises(SetError, match="has no train_masks, val_masks, test_masks"):
        everything(source(tmp_path / "set.npz", {"xray": "image", "lesion": "mask"}))


def test_a_set_may_be_all_in_train(tmp_path):
    arrays = make_npz(tmp_path / "whole.npz")
    np.savez(tmp_path / "set.npz", **{name: array for name, array in arrays.items() if name.startswith("train")})
    assert [r.split for r in everything(source(tmp_path / "set.npz"))] == ["train"] * COUNTS["train"]
    np.savez(tmp_path / "set.npz", **{name: array for name, array in arrays.items() if name != "val_labels"})
    with pytest.raises(SetError, match="has no val_labels"):
        everything(source(tmp_path / "set.npz"))


def test_channels_may_lie_in_files_of_their_own(tmp_path):
    arrays = {name: make_npz(tmp_path / f"{name}.npz", masks=True, seed=seed) for seed, name in enumerate(("t1", "t2"))}
    channels = {"t2": "image", "t1": "image", "lesion": "mask"}
    files = {name: str(tmp_path / f"{name}.npz") for name in arrays}
    image = Image(size=(16, 16), channels=channels, labels=NAMES)
    for record in everything(MedMNIST(image, 1, files, NAMES, TWO)):
        _, name, place = record.file.split("/")
        assert all(np.array_equal(record.channels[c], of[name][int(place)]) for c, of in arrays.items())
        assert record.channels["lesion"].any() == (record.label != "normal")
    with pytest.raises(ParamsError, match=r"file names \['t1'\], image channels are \['t2', 't1'\]"):
        everything(MedMNIST(image, 1, {"t1": files["t1"]}, NAMES, TWO))
    make_npz(tmp_path / "t1.npz", val_labels=np.ones((3, 1), np.uint8))
    with pytest.raises(SetError, match=r"t1\.npz: val_labels are not those of .*t2\.npz"):
        everything(MedMNIST(image, 1, files, NAMES, TWO))


def test_a_checksum_is_held(path):
    for kind in ("md5", "sha256"):
        right = hashlib.new(kind, path.read_bytes()).hexdigest()
        assert everything(source(path, **{kind: right.upper()}))
        with pytest.raises(SetError, match=rf"set\.npz: its {kind} is {right}, source\.args\.{kind} expects abc"):
            everything(source(path, **{kind: "abc"}))


def test_the_file_may_name_an_environment_variable(path, monkeypatch):
    monkeypatch.setenv("SOME_FOLDER", str(path.parent))
    assert everything(source("${SOME_FOLDER}/set.npz"))
    monkeypatch.delenv("SOME_FOLDER")
    with pytest.raises(SetError, match="SOME_FOLDER"):
        everything(source("${SOME_FOLDER}/set.npz"))


def test_several_labels_for_an_image_are_refused(tmp_path):
    make_npz(tmp_path / "chest.npz", val_labels=np.zeros((3, 14), np.uint8))
    with pytest.raises(SetError, match=r"chest\.npz: val_labels is \(3, 14\), several labels"):
        everything(source(tmp_path / "chest.npz"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_labels": np.zeros((11, 1), np.uint8)}, r"train_labels is \(11, 1\) of uint8; 12 images"),
        ({"train_labels": np.zeros((12, 1))}, "of float64"),
        ({"test_images": np.zeros((6, 20, 24))}, "test_images is of float64"),
        ({"test_labels": np.full((6, 1), 7)}, r"test_labels holds 7, source\.args\.labels names \[0, 1, 2\]"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, changes, said):
    make_npz(tmp_path / "set.npz", **changes)
    with pytest.raises(SetError, match=said):
        everything(source(tmp_path / "set.npz"))


def test_a_missing_broken_or_other_file_is_named(tmp_path):
    with pytest.raises(SetError, match=r"set\.npz is not there"):
        source(tmp_path / "set.npz").fingerprint()
    for content in (b"", b"no zip", b"PK\x03\x04 cut off"):
        (tmp_path / "set.npz").write_bytes(content)
        with pytest.raises(SetError, match=r"set\.npz cannot be read as \.npz"):
            everything(source(tmp_path / "set.npz"))
    with (tmp_path / "set.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(SetError, match=r"set\.npz cannot be read as \.npz"):
        everything(source(tmp_path / "set.npz"))
    np.savez(tmp_path / "set.npz", images=np.zeros(3))
    with pytest.raises(SetError, match="has no train_images, train_labels"):
        everything(source(tmp_path / "set.npz"))


def test_arguments_that_make_no_sense_are_named(path):
    with pytest.raises(ParamsError, match="MedMNIST has no sites; name a kind"):
        source(path, partition=None)
    with pytest.raises(ParamsError, match="alhpa"):
        source(path, partition=TWO | {"alhpa": 1})
    with pytest.raises(ParamsError, match=r"source\.args\.splits: official or hash"):
        source(path, splits="officail")
    with pytest.raises(ParamsError, match=r"source\.args\.labels"):
        source(path, labels={"normal": "0"})
    with pytest.raises(ParamsError, match="names an integer twice"):
        source(path, labels={"0": "a", 0: "b"})
    with pytest.raises(ParamsError, match="put the name in quotes"):
        source(path, labels=[False, True])
    with pytest.raises(ParamsError, match=r"source\.args\.at_most"):
        source(path, at_most=0)


def test_a_changed_file_changes_the_fingerprint_and_a_seed_does_not(path):
    first = source(path).fingerprint()
    assert source(path, seed=2).fingerprint() == first
    make_npz(path, item=(20, 26))
    assert source(path).fingerprint() != first
