"""An ingest that reads only what is new or has changed writes what one that reads all would write."""

from __future__ import annotations

import os
import shutil
import threading

import numpy as np
import pandas as pd
import pytest

from fedsynth.data import manifest, reading, removal
from fedsynth.data.dataset import ImageSet
from fedsynth.hospital import forget, withdrawals
from fedsynth.hospital.withdrawals import INGESTED
from fedsynth.stages.ingest import ingest_site
from tests.sets import tiny_params
from tests.stages.test_ingest_processes import DERIVED
from tests.tables import make_table, write_table


class Hospital:
    """A site with a folder of files, of which it lists some, and the set that it ingests again and again."""

    def __init__(self, root, image=None, **args):
        self.root, self.files, self.opened = root, root / "some files", []
        self.table = make_table(self.files, subjects=12, images=2).assign(site="p")
        default = {"size": [16, 16], "channels": {"us": "image", "lesion": "mask"}, "labels": ["a", "b", "c"],
                   "empty_labels": []}  # fmt: skip
        source = {"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(self.files)} | args}
        self.params = tiny_params(source=source, image=default | (image or {}))

    @property
    def images(self):
        return self.root / "sets" / "p" / manifest.ARRAY

    def ingest(self, rows, to="sets", **how):
        """Ingest these rows of the table. Returns the names of the files that were opened."""
        write_table(self.files, rows)
        self.opened.clear()
        source = self.params.source.build(image=self.params.image.sourced, seed=self.params.seed)
        ingest_site(self.params, source, "p", self.root / to, self.root / "state" if to == "sets" else None, **how)
        return {path.name for path in self.opened}

    def is_as_anew(self, rows):
        """Whether the set is, to the last byte, the one that is written where there is none before."""
        self.ingest(rows, to="other")
        ImageSet.load(self.root / "sets" / "p")  # every pixel against its hash
        names = (manifest.ARRAY, manifest.HISTOGRAMS, manifest.FILE)
        return [name for name in names if (self.root / "sets/p" / name).read_bytes()
                != (self.root / "other/p" / name).read_bytes()] == []  # fmt: skip


@pytest.fixture
def at(tmp_path, monkeypatch):
    def hospital(**args):
        made = Hospital(tmp_path, **args)
        read = reading.read
        monkeypatch.setattr(reading, "read", lambda path, *a, **k: (made.opened.append(path), read(path, *a, **k))[1])
        return made

    return hospital


def files_of(rows):
    return {name.rpartition("/")[2] for column in ("image", "mask") for name in rows[column] if name}


def test_new_patients_are_read_alone_and_appended_in_place(at, capsys):
    here = at()
    assert here.ingest(here.table[:20]) == files_of(here.table[:20])
    number, content = here.images.stat().st_ino, here.images.read_bytes()
    capsys.readouterr()
    assert here.ingest(here.table) == files_of(here.table[20:])
    assert "p: 24 images" in (said := capsys.readouterr().out)
    assert " · 4 read anew, the others kept" in said
    assert here.images.stat().st_ino == number
    assert here.images.read_bytes()[128 : len(content)] == content[128:]
    assert here.is_as_anew(here.table)


def test_where_nothing_has_changed_nothing_is_read(at):
    here = at()
    here.ingest(here.table)
    for _ in range(2):
        assert here.ingest(here.table) == set()
    assert here.is_as_anew(here.table)
    assert here.ingest(here.table, anew=True) == files_of(here.table)


@pytest.mark.parametrize("places", [[5, 0, 6, *range(7, 24)], [*range(4, 24)], list(reversed(range(24))), [3], []])
def test_patients_in_the_middle_or_gone_or_in_another_order_are_noticed(at, places):
    here = at()
    here.ingest(here.table[:12])
    rows = here.table.iloc[places]
    if places:
        assert here.ingest(rows) == files_of(rows[rows.index >= 12])
        assert here.is_as_anew(rows)
    else:
        with pytest.raises(manifest.SetError):
            here.ingest(rows)


def test_a_changed_file_a_mended_one_and_a_changed_row_are_read_again(at):
    here = at()
    rows = here.table.copy()
    good = (here.files / rows["image"][2]).read_bytes()
    (here.files / rows["image"][2]).write_bytes(b"no picture")
    here.ingest(rows)
    assert here.ingest(rows) == files_of(rows[2:3]), "what has a problem is looked at each time"
    (here.files / rows["image"][2]).write_bytes(good)
    shutil.copy(here.files / rows["mask"][8], here.files / rows["mask"][9])
    rows.loc[20, "label"] = "a"
    assert here.ingest(rows) == files_of(rows.loc[[2, 9, 20]])
    assert here.is_as_anew(rows)


@pytest.mark.parametrize("what", ["size", "seed", "set", "list"])
def test_all_is_read_where_it_would_be_made_otherwise_or_the_set_has_changed(at, what):
    here = at()
    here.ingest(here.table)
    if what == "size":
        here.params = here.params.model_copy(update={"image": here.params.image.model_copy(update={"size": (12, 12)})})
    elif what == "seed":
        here.params = here.params.model_copy(update={"seed": 99})
    elif what == "set":
        images = np.load(here.images)
        images[3] = 0
        np.save(here.images, images)
    else:
        (here.root / "state" / "p" / INGESTED).unlink()
    assert here.ingest(here.table) == files_of(here.table)
    assert here.is_as_anew(here.table)


def test_limits_of_the_whole_site_change_with_new_patients(at):
    here = at(image={"scale": {"us": {"percentiles": [1, 99], "of": "site"}}})
    here.ingest(here.table[:20])
    assert here.ingest(here.table) == files_of(here.table)
    assert here.is_as_anew(here.table)


@pytest.mark.parametrize("more", ["appended", "before"])
def test_chance_in_derived_channels_is_as_if_all_were_read(at, more):
    names = {"t1_low": "image", "t1": "image", "lesion": "mask"}
    here = at(image=DERIVED | {"channels": names})
    here.ingest(here.table[2:20])
    rows = here.table[2:] if more == "appended" else here.table
    assert here.ingest(rows) == files_of(rows[18:] if more == "appended" else rows)
    assert here.is_as_anew(rows)


def test_a_file_with_a_second_name_is_not_written_to(at, tmp_path):
    """DVC and backups link files: what is appended to one would be in the other."""
    here = at()
    here.ingest(here.table[:20])
    os.link(here.images, tmp_path / "cache")
    content = (tmp_path / "cache").read_bytes()
    assert here.ingest(here.table) == files_of(here.table[20:])
    assert (tmp_path / "cache").read_bytes() == content
    assert here.is_as_anew(here.table)


def test_an_append_that_fails_leaves_the_set_of_before(at, monkeypatch):
    here = at()
    here.ingest(here.table[:20])
    before = {path.name: path.read_bytes() for path in here.images.parent.iterdir()}
    monkeypatch.setattr("fedsynth.data.splits.assign", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        here.ingest(here.table)
    assert {path.name: path.read_bytes() for path in here.images.parent.iterdir()} == before


def test_what_a_killed_append_has_left_is_no_part_of_the_set_and_is_cut_off(at):
    here = at()
    here.ingest(here.table[:20])
    content = here.images.read_bytes()
    with here.images.open("ab") as file:
        file.write(b"\0" * 5000)  # and the process is gone before it has written the header
    assert len(ImageSet.load(here.images.parent)) == 20
    removal.complete(here.images.parent)
    assert here.images.read_bytes() == content
    assert here.ingest(here.table) == files_of(here.table), "the file is another than the one that was noted"
    assert here.is_as_anew(here.table)


def test_who_has_withdrawn_is_in_no_file_and_all_others_are_read_again(at):
    here = at()
    here.ingest(here.table)
    gone = here.table["subject"][10]
    theirs = np.load(here.images)[here.table["subject"] == gone]
    site = forget.Site("p", here.images.parent, here.root / "state" / "p")
    forget.carry_out(forget.plan(site, [gone]))
    assert not (site.state / INGESTED).exists()
    for _ in range(2):
        here.ingest(here.table)
        kept = ImageSet.load(here.images.parent)
        assert set(kept.manifest["subject"]) == set(here.table["subject"]) - {gone}
        content = here.images.read_bytes()
        assert not any(image.tobytes() in content for image in theirs)


def test_who_has_withdrawn_does_not_stay_where_forgetting_was_cut_short(at):
    """The list of the withdrawn is written first; the set was not cleared yet."""
    here = at()
    here.ingest(here.table)
    gone = here.table["subject"][10]
    withdrawals.record(here.root / "state" / "p", [gone], [])
    here.ingest(here.table)
    assert gone not in set(manifest.read(here.images.parent)["subject"])
    assert len(np.load(here.images)) == 22


def test_slices_of_a_new_volume_follow_those_of_before(at):
    here = at(image={"channels": {"us": "image"}}, slices={"every": 2})
    rng, rows = np.random.default_rng(0), here.table.assign(mask="")
    for number in rows.index:
        rows.loc[number, "image"] = f"images/{number}.npy"
        np.save(here.files / rows["image"][number], rng.uniform(0, 9, (3 + number % 4, 20, 24)))
    here.ingest(rows[:20])
    assert here.ingest(rows) == files_of(rows[20:])
    assert here.is_as_anew(rows)
    assert here.ingest(pd.concat([rows[22:], rows[:20]])) == set()
    assert here.is_as_anew(pd.concat([rows[22:], rows[:20]]))


def test_two_commands_that_change_a_set_wait_for_each_other(at, capfd):
    """Two ingests would append to one file, and who was forgotten meanwhile would come back."""
    here, done = at(), []
    here.ingest(here.table[:20])
    with withdrawals.alone(here.root / "state" / "p"):
        other = threading.Thread(target=lambda: done.append(here.ingest(here.table)))
        other.start()
        other.join(0.5)
        assert done == []
        assert "waiting for another command that changes the set of p" in capfd.readouterr().err
    other.join(30)
    assert done == [files_of(here.table[20:])]
