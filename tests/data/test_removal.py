"""Rows are taken out of a set; what is left stays byte for byte, whatever interrupts it."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedsynth.data import manifest, removal
from fedsynth.data.dataset import ImageSet
from tests.sets import make_set, tiny_params

PARAMS = tiny_params()


def filled(folder, n=20):
    """A set of n images with its histograms, as ingest leaves it."""
    made = make_set(folder, PARAMS, n=n)
    np.save(folder / manifest.HISTOGRAMS, np.arange(n * 4, dtype=np.uint32).reshape(n, 2, 2))
    return made


def without(*subjects):
    return lambda rows: rows["subject"].isin(subjects)


def cells(folder, *left_out):
    """Lines of the manifest as text by image_id, without some columns."""
    first, *lines = (folder / manifest.FILE).read_text().splitlines()
    out = [first.split(",").index(name) for name in left_out]
    rows = [[c for i, c in enumerate(line.split(",")) if i not in out] for line in lines]
    return {row[0]: row for row in rows}


@given(gone=st.sets(st.integers(0, 6)))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_images_and_histograms_of_the_others_are_as_they_were(tmp_path_factory, gone):
    folder = tmp_path_factory.mktemp("set")
    made = filled(folder)
    subjects = sorted(set(made.manifest["subject"]))
    chosen = [subjects[i] for i in gone if i < len(subjects)]
    before, keep = cells(folder, "index"), ~made.manifest["subject"].isin(chosen).to_numpy()
    bars = np.load(folder / manifest.HISTOGRAMS)
    assert removal.take_out(folder, without(*chosen)) == (~keep).sum()
    left = ImageSet.load(folder)  # every pixel is held against its hash
    np.testing.assert_array_equal(left.images, made.images[keep])
    np.testing.assert_array_equal(np.load(folder / manifest.HISTOGRAMS), bars[keep])
    assert cells(folder, "index") == {name: before[name] for name in left.manifest["image_id"]}
    assert sorted(left.manifest["index"]) == list(range(len(left)))
    assert not set(left.manifest["subject"]) & set(chosen)
    assert {p.name for p in folder.iterdir()} == {manifest.HISTOGRAMS, manifest.ARRAY, manifest.FILE}


def test_a_manifest_in_another_order_than_its_arrays_stays_in_it(tmp_path):
    made = filled(tmp_path)
    rows = made.manifest.iloc[::-1]
    rows.to_csv(tmp_path / manifest.FILE, index=False, float_format="%.6g", lineterminator="\n")
    gone = made.manifest["subject"][0]
    removal.take_out(tmp_path, without(gone))
    left = ImageSet.load(tmp_path)
    assert list(left.manifest["image_id"]) == [
        i for i, s in zip(rows["image_id"], rows["subject"], strict=True) if s != gone
    ]


def test_all_rows_may_go_and_none_may_be_there(tmp_path):
    filled(tmp_path)
    assert removal.take_out(tmp_path, lambda rows: rows["subject"] != "") == 20
    assert len(manifest.read(tmp_path)) == 0
    assert np.load(tmp_path / manifest.ARRAY).shape == (0, 3, 16, 16)
    assert removal.take_out(tmp_path, without("x")) == 0


@pytest.mark.parametrize("cut", range(7))
def test_whatever_interrupts_it_a_second_call_completes_it(tmp_path, monkeypatch, cut):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    gone = filled(whole).manifest["subject"][0]
    filled(broken)
    removal.take_out(whole, without(gone))
    real, calls = os.replace, []

    def replace(*names):
        calls.append(names)
        if len(calls) > cut:
            raise KeyboardInterrupt
        real(*names)

    with monkeypatch.context() as patch:
        patch.setattr(removal.os, "replace", replace)
        try:
            removal.take_out(broken, without(gone))
        except KeyboardInterrupt:
            assert cut < 4, "four files are renamed: the manifest beside, and three into their places"
    removal.take_out(broken, without(gone))
    for name in (manifest.FILE, manifest.ARRAY, manifest.HISTOGRAMS):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    assert {p.name for p in broken.iterdir()} == {manifest.FILE, manifest.ARRAY, manifest.HISTOGRAMS}


def test_parts_of_a_set_that_was_ingested_anew_are_thrown_away(tmp_path, monkeypatch):
    gone = filled(tmp_path).manifest["subject"][0]
    with monkeypatch.context() as patch:
        patch.setattr(removal.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            removal.take_out(tmp_path, without(gone))
    assert any(p.name.endswith(".part") for p in tmp_path.iterdir())
    (tmp_path / "notes.part").write_text("a person's")
    filled(tmp_path, n=12)
    removal.complete(tmp_path)
    assert len(ImageSet.load(tmp_path)) == 12
    assert {p.name for p in tmp_path.iterdir()} == {manifest.FILE, manifest.ARRAY, manifest.HISTOGRAMS, "notes.part"}


def test_files_that_do_not_fit_together_are_left_alone(tmp_path):
    made = filled(tmp_path)
    np.save(tmp_path / manifest.ARRAY, made.images[:-1])
    before = (tmp_path / manifest.FILE).read_bytes()
    with pytest.raises(manifest.SetError, match=r"images\.npy does not fit its manifest \(19 and 20 rows\)"):
        removal.take_out(tmp_path, without(made.manifest["subject"][0]))
    assert (tmp_path / manifest.FILE).read_bytes() == before
