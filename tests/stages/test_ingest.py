"""Ingest: rows that agree with pixels, bad files that keep a row, sites that are empty, real hospitals' files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedsynth import params
from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet
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
    np.save(files / "nan.npy", np.where(np.eye(20, 24) > 0, np.nan, np.arange(24)))
    np.save(files / "volume.npy", np.zeros((9, 9, 9)))
    rows.loc[1, "image"], rows.loc[4, "image"], rows.loc[5, "label"] = "nan.npy", "volume.npy", "typo"
    write_table(files, rows)
    images = sets(ingest(table_params(files), tmp_path / "sets"), tmp_path / "sets")["p"]
    table = images.manifest.set_index("file")
    assert sorted(table.index[table["problem"] != ""]) == sorted([rows["image"][0], "volume.npy"])
    assert (images.images[(images.manifest["problem"] != "").to_numpy()] == 0).all()
    assert table.loc["nan.npy", "nonfinite"] == 20
    assert table.loc[rows["image"][5], "label"] == "typo"
    assert table.loc[rows["image"][5], "source_shape"] == "20x24"
    printed = capsys.readouterr().out
    assert "typo 1" in printed
    assert "2 problems, the first: 000-0.png cannot be read" in printed


def test_without_a_mask_channel_there_is_no_hash_of_it(tmp_path):
    make_table(tmp_path / "files", subjects=6)
    images = sets(
        ingest(table_params(tmp_path / "files", {"channels": {"us": "image"}}), tmp_path / "sets"), tmp_path / "sets"
    )["p"]
    assert (images.manifest["mask_sha256"] == "").all()
    assert (images.manifest["mask_area"] == 0).all()


def test_real_ultrasound_fills_four_sites_as_its_params_say(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_BUSI", str(real("busi")))
    asked = params.load(ROOT / "params.busi.yaml")
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
        assert (images.manifest["max"] == 1).all()
        assert (images.manifest["mask_area"] > 20).all()


def test_real_volumes_fill_three_sites_as_their_params_say(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_HIPPOCAMPUS", str(real("hippocampus")))
    asked = params.load(ROOT / "params.hippocampus.yaml")
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
    both = [params.load(ROOT / name) for name in ("params.yaml", "params.busi.yaml")]
    assert set(both[0].models) == set(both[1].models)
    assert both[1].source.args["folder"] == "${FEDSYNTH_BUSI}"


def test_the_default_phantoms_have_enough_images_of_each_class_and_split(tmp_path):
    asked = params.load(ROOT / "params.yaml")
    for rows in ingest(asked, tmp_path).values():
        counts = rows.groupby(["label", "split"]).size().unstack()
        for split, least in asked.expectations.min_images.items():
            assert counts[split].min() >= least
