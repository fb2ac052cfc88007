"""Ingest: rows that agree with pixels, bad files that keep a row, sites that are empty, real hospitals' files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedsynth import params
from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet
from fedsynth.hospital import forget
from fedsynth.sources import Record, Source
from fedsynth.stages.ingest import ingest, ingest_site
from tests.realdata import real
from tests.sets import tiny_params
from tests.tables import make_table, write_table

ROOT = Path(__file__).parents[2]


def table_params(folder, image=None, **args):
    source = {"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(folder)} | args}
    default = {
        "size": [16, 16],
        "channels": {"us": "image", "lesion": "mask"},
        "labels": ["a", "b", "c"],
        "empty_labels": [],
    }
    return tiny_params(source=source, image=default | (image or {}))


def sets(found, folder):
    return {site: ImageSet.load(folder / site) for site in found}  # which verifies every pixel against its hash


@pytest.mark.parametrize("size", [[16, 16], [8, 12, 12]])
def test_phantoms_become_sets_whose_rows_agree_with_their_pixels(tmp_path, size):
    found = ingest(tiny_params(image={"size": size}), tmp_path)
    assert list(found) == ["north", "east"]
    for site, images in sets(found, tmp_path).items():
        rows = images.manifest
        pd.testing.assert_frame_equal(rows, found[site], check_exact=False, rtol=1e-5)
        assert manifest.digest(rows) == manifest.digest(found[site])
        assert images.images.shape == (24, 3, *size)
        assert rows["image_id"].is_unique
        assert rows["sha256"].is_unique
        assert (rows["site"] == site).all()
        assert (rows["shape"] == "x".join(map(str, size))).all()
        assert set(np.unique(images.images[:, 2])) == {-1, 1}
        assert (rows["mask_area"] == (images.images[:, 2] > 0).reshape(24, -1).sum(1)).all()
        assert ((rows["mask_area"] == 0) == (rows["label"] == "none")).all()
        np.testing.assert_allclose(rows["mean"], images.images[:, :2].reshape(24, -1).mean(1), atol=1e-5)
        assert (rows["min"].min(), rows["max"].max()) == (-1, 1)


def test_twice_the_same_ingest_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        ingest(tiny_params(), tmp_path / name)
    for file in ("north/images.npy", "north/manifest.csv", "east/images.npy", "east/manifest.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_one_site_alone_is_as_it_is_among_the_others(tmp_path):
    asked = tiny_params()
    together = ingest(asked, tmp_path / "all")["east"]
    alone = ingest_site(asked, asked.source.build(image=asked.image, seed=asked.seed), "east", tmp_path / "one")
    assert manifest.digest(alone) == manifest.digest(together)


def test_a_site_that_the_source_does_not_name_is_an_error(tmp_path):
    asked = tiny_params()
    with pytest.raises(manifest.SetError, match="'weast'; it names north, east"):
        ingest_site(asked, asked.source.build(image=asked.image, seed=asked.seed), "weast", tmp_path)


def test_images_of_one_subject_are_in_one_split(tmp_path):
    make_table(tmp_path / "files", subjects=30, images=3)
    for rows in ingest(table_params(tmp_path / "files"), tmp_path / "sets").values():
        assert rows.groupby("subject")["split"].nunique().max() == 1
        assert rows["split"].nunique() > 1


class Splits(Source):
    """One site with an image in each of the named splits."""

    def __init__(self, *names):
        self.names = names

    def sites(self):
        return ["north"]

    def records(self, site):
        for number, name in enumerate(self.names):
            planes = {c: np.eye(16, dtype=np.float32) for c in ("t1", "t2", "lesion")}
            yield Record(planes, "none", f"patient {number}", file=f"{number}.png", split=name)


def test_a_sources_own_split_is_kept_and_no_other_word_is_taken_for_one(tmp_path):
    asked = tiny_params(split={"val": 0, "test": 0.99})
    rows = ingest_site(asked, Splits("train", "val", "test", "", "valid"), "north", tmp_path)
    assert rows["split"].tolist() == ["train", "val", "test", "test", "test"]
    *good, bad = rows["problem"]
    assert not any(good)
    assert bad.startswith("4.png is in the split 'valid'; a source may name train, val, test")


def test_an_empty_site_is_an_empty_set(tmp_path, capsys):
    source = {"class_path": "fedsynth.sources.phantom.Phantom", "args": {"sites": {"north": {"images": 0}}}}
    (images,) = sets(ingest(tiny_params(source=source), tmp_path), tmp_path).values()
    assert len(images) == 0
    assert images.images.shape == (0, 3, 16, 16)
    assert "north: 0 images" in capsys.readouterr().out


def test_bad_files_keep_a_row_that_says_why_and_the_line_tells_of_them(tmp_path, capsys):
    files = tmp_path / "files"
    rows = make_table(files, subjects=12)
    (files / rows["image"][0]).write_bytes(b"not a picture")
    np.save(files / "nan.npy", np.tile(np.where(np.arange(24) < 6, np.nan, np.arange(24)), (20, 1)))
    np.save(files / "volume.npy", np.zeros((9, 9, 9)))
    rows.loc[1, "image"], rows.loc[4, "image"], rows.loc[5, "label"] = "nan.npy", "volume.npy", "typo"
    write_table(files, rows)
    images = sets(ingest(table_params(files), tmp_path / "sets"), tmp_path / "sets")["p"]
    table = images.manifest.set_index("file")
    assert sorted(table.index[table["problem"] != ""]) == sorted([rows["image"][0], "volume.npy"])
    assert (images.images[(images.manifest["problem"] != "").to_numpy()] == 0).all()
    assert table.loc["nan.npy", "outside"] == 0.25
    assert table.loc[rows["image"][5], "label"] == "typo"
    assert table.loc[rows["image"][5], "source_shape"] == "20x24"
    printed = capsys.readouterr().out
    assert "typo 1" in printed
    assert "2 problems, the first: 000-0.png cannot be read" in printed


class Given(Source):
    """One site with the records that it is given; each time they are asked for, new ones."""

    def __init__(self, make, site="north"):
        self.make, self.site = make, site

    def sites(self):
        return [self.site]

    def records(self, site):
        yield from self.make()


def scans(*planes, **facts):
    """Records of one channel each, with a lesion in the middle unless `facts` has other channels."""
    lesion = np.zeros((16, 16), np.float32)
    lesion[6:9, 6:9] = 1
    for number, plane in enumerate(planes):
        channels = {"t1": plane.astype(np.float32), "lesion": lesion}
        yield Record(channels, "none", f"p{number}", file=f"{number}.nii", **facts)


def ramp(low=0.0, high=100.0):
    return np.linspace(low, high, 256, dtype=np.float32).reshape(16, 16)


ONE = {"channels": {"t1": "image", "lesion": "mask"}, "empty_labels": [], "labels": ["none"]}


def test_nan_at_the_border_is_background_with_its_share_and_nan_inside_is_the_rows_problem(tmp_path):
    beyond, inside = ramp(), ramp()
    beyond[:4], inside[8, 8:11] = np.nan, np.nan
    rows = ingest_site(tiny_params(image=ONE), Given(lambda: scans(ramp(), beyond, inside)), "north", tmp_path)
    assert rows["outside"].tolist() == [0, 0.25, 0]
    assert rows["problem"].tolist()[:2] == ["", ""]
    assert rows["problem"][2].startswith("2.nii: 't1' has 3 values in the body that are no numbers")
    images = np.load(tmp_path / "north" / manifest.ARRAY)
    assert (images[1, 0, :4] == -1).all()


def test_the_manifest_tells_values_as_read_and_those_that_became_the_ends(tmp_path):
    asked = tiny_params(image=ONE | {"scale": {"window": [10, 60]}})
    rows = ingest_site(asked, Given(lambda: scans(ramp(-20, 90))), "north", tmp_path)
    assert rows["values"].tolist() == ["t1 -20..90"]
    assert rows["scaled"].tolist() == ["t1 10..60"]
    stored = np.load(tmp_path / "north" / manifest.ARRAY)[0, 0]
    np.testing.assert_allclose(stored, np.clip((ramp(-20, 90) - 10) / 50 * 2 - 1, -1, 1), atol=1e-5)


def test_what_a_source_says_of_an_image_is_in_its_row(tmp_path):
    make = Given(lambda: scans(ramp(), notes=["turned", "turned", "cut"], warnings=["odd border"]))
    rows = ingest_site(tiny_params(image=ONE), make, "north", tmp_path)
    assert rows.loc[0, ["notes", "warning"]].tolist() == ["turned; cut", "odd border"]


def test_a_mask_that_is_not_there_is_unknown_and_named_unless_params_say_that_nothing_is_marked(tmp_path):
    def without_mask():
        for record in scans(ramp()):
            del record.channels["lesion"]
            yield record

    for unmarked, lacks, stored in (("unknown", "lesion", 0), ("healthy", "", -1)):
        asked = tiny_params(image=ONE | {"unmarked": unmarked})
        rows = ingest_site(asked, Given(without_mask), "north", tmp_path)
        assert rows["lacks"].tolist() == [lacks]
        assert rows["problem"].tolist() == [""]
        assert set(np.unique(np.load(tmp_path / "north" / manifest.ARRAY)[:, 1])) == {stored}


def test_limits_of_the_site_are_those_of_its_training_images_and_one_for_all(tmp_path):
    def make():
        for record, split in zip(
            scans(ramp(0, 100), ramp(0, 300), ramp(0, 9000)), ("train", "val", "test"), strict=True
        ):
            record.split = split
            yield record

    asked = tiny_params(image=ONE | {"scale": {"percentiles": [0, 100], "of": "site"}})
    rows = ingest_site(asked, Given(make), "north", tmp_path)
    assert rows["scaled"].tolist() == ["t1 0..100"] * 3
    means = np.load(tmp_path / "north" / manifest.ARRAY)[:, 0].mean((1, 2))
    assert means[0] < means[1] < means[2], "an image three times brighter stays brighter"


def test_histograms_count_the_finite_values_as_read_before_anything_is_done_to_them(tmp_path):
    plane = ramp(0, 31)
    plane[0] = np.nan
    asked = tiny_params(image=ONE | {"size": [8, 8]})
    ingest_site(asked, Given(lambda: scans(plane, ramp())), "north", tmp_path)
    found = np.load(tmp_path / "north" / manifest.HISTOGRAMS)
    assert found.shape == (2, 1, manifest.BINS)
    assert found.sum(2).tolist() == [[240], [256]]
    assert (found[1] == 8).all()


def test_the_sets_of_an_earlier_source_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("not a set")
    ingest(tiny_params(), tmp_path)
    other = {"class_path": "fedsynth.sources.phantom.Phantom", "args": {"sites": {"east": {"images": 6}}}}
    ingest(tiny_params(source=other), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["east", "mine"]
    assert len(manifest.read(tmp_path / "east")) == 6


@pytest.mark.parametrize("seed", range(8))
def test_every_split_has_images_of_every_class_whatever_the_seed(tmp_path, seed):
    make_table(tmp_path / "files", subjects=36)
    asked = table_params(tmp_path / "files").model_copy(update={"seed": seed})
    for rows in ingest(asked, tmp_path / "sets").values():
        counts = rows.groupby(["label", "split"]).size().unstack(fill_value=0)
        assert counts[["train", "val", "test"]].to_numpy().min() >= 1
        assert (counts["test"] / counts.sum(axis=1)).between(0.1, 0.5).all()


def test_without_a_mask_channel_there_is_no_hash_of_it(tmp_path):
    make_table(tmp_path / "files", subjects=6)
    images = sets(
        ingest(table_params(tmp_path / "files", {"channels": {"us": "image"}}), tmp_path / "sets"), tmp_path / "sets"
    )["p"]
    assert (images.manifest["mask_sha256"] == "").all()
    assert (images.manifest["mask_area"] == 0).all()


def test_real_ultrasound_fills_four_sites_as_its_params_say(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_BUSI", str(real("busi")))
    asked = params.load(ROOT / "fedsynth/study/examples/busi.yaml")
    found = ingest(asked, tmp_path)
    everything = pd.concat(found.values())
    assert len(found) == 4
    assert len(everything) == everything["file"].nunique() == 320
    assert (everything["problem"] == "").all()
    assert ((everything["mask_area"] == 0) == (everything["label"] == "normal")).all()
    counts = everything.groupby(["site", "label", "split"]).size().unstack()
    for split, least in asked.expectations.min_images.items():
        assert counts[split].min() >= least


def test_real_volumes_of_very_different_ranges_are_alike_after_ingest(tmp_path):
    image = {"size": [16, 20, 16], "channels": {"t1": "image", "hippocampus": "mask"}, "labels": ["all"]}
    asked = table_params(real("hippocampus"), image, labels={"": "all"}, partition={"kind": "iid", "sites": 2})
    found = sets(ingest(asked, tmp_path), tmp_path)
    for images in found.values():
        assert images.images.shape[1:] == (2, 16, 20, 16)
        assert images.manifest["mean"].between(-0.95, 0.2).all()
        assert (images.manifest["max"] > 0.9).all()
        assert (images.manifest["mask_area"] > 20).all()


def test_real_volumes_fill_three_sites_as_their_params_say(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_HIPPOCAMPUS", str(real("hippocampus")))
    asked = params.load(ROOT / "fedsynth/study/examples/hippocampus.yaml")
    found = ingest(asked, tmp_path)
    everything = pd.concat(found.values())
    assert {site: len(rows) for site, rows in found.items()} == {"nashville": 22, "memphis": 21, "knoxville": 22}
    assert (everything["problem"] == "").all()
    assert set(everything["label"]) == {"hippocampus"}
    assert (everything["mask_area"] > 20).all()
    counts = everything.groupby(["site", "split"]).size().unstack()
    for split, least in asked.expectations.min_images.items():
        assert counts[split].min() >= least


def test_the_params_of_both_jobs_load_and_have_the_same_models():
    both = [params.load(ROOT / name) for name in ("params.yaml", "fedsynth/study/examples/busi.yaml")]
    assert set(both[0].models) == set(both[1].models)
    assert both[1].source.args["folder"] == "${FEDSYNTH_BUSI}"


def test_the_default_phantoms_have_enough_images_of_each_class_and_split(tmp_path):
    asked = params.load(ROOT / "params.yaml")
    for rows in ingest(asked, tmp_path).values():
        counts = rows.groupby(["label", "split"]).size().unstack()
        for split, least in asked.expectations.min_images.items():
            assert counts[split].min() >= least


def forgets(folder, *subjects):
    """A site `north` of `folder` forgets these subjects; the digest that it then has."""
    site = forget.Site("north", folder / "sets/north", folder / "state/north")
    forget.carry_out(forget.plan(site, list(subjects)))
    return manifest.digest(manifest.read(site.data))


@pytest.mark.parametrize("scale", [{}, {"t1": {"percentiles": [1, 99], "of": "site"}}])
def test_who_has_withdrawn_is_left_out_again_and_nobody_else_changes_place(tmp_path, capsys, scale):
    asked = tiny_params(image={"scale": scale})
    before = ingest(asked, tmp_path / "sets", tmp_path / "state")
    north = before["north"]
    gone = list(north.loc[north["split"] == "train", "subject"].unique()[:2])
    digest = forgets(tmp_path, *gone)
    capsys.readouterr()
    after = ingest(asked, tmp_path / "sets", tmp_path / "state")
    theirs = north["subject"].isin(gone)
    assert f" · {theirs.sum()} of patients who have withdrawn left out" in capsys.readouterr().out
    kept = north[~theirs].set_index("image_id")
    again = ImageSet.load(tmp_path / "sets/north").manifest.set_index("image_id")
    assert list(again.index) == list(kept.index)
    for column in ("subject", "label", "split", "file"):
        assert list(again[column]) == list(kept[column]), column
    assert not any(name in (tmp_path / "sets/north/manifest.csv").read_text() for name in gone)
    assert (manifest.digest(after["north"]) == digest) is not bool(scale), "but for a scale of the whole site"
    pd.testing.assert_frame_equal(after["east"], before["east"])
    bars = np.load(tmp_path / "sets/north" / manifest.HISTOGRAMS)
    assert len(bars) == len(again)
