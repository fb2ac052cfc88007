"""Ingest in several processes writes what it writes in one, and ends with a reason whatever happens to one of them."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest

from fedsynth.data import manifest, workers
from fedsynth.data.dataset import ImageSet
from fedsynth.sources import Record, Source
from fedsynth.stages.ingest import ingest, ingest_site
from tests.sets import tiny_params
from tests.tables import make_table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
LOW = {"t1_low": {"of": "t1", "operator": {"class_path": "fedsynth.operators.kspace.Undersample"}}}
DERIVED = {"channels": {"t1_low": "image", "t1": "image", "lesion": "mask"}, "given": ["t1_low"], "derived": LOW}


@pytest.fixture
def in_processes(monkeypatch):
    """Ingest in so many processes, which are started after the first units."""
    monkeypatch.setattr(workers, "SOON_S", -1)
    return lambda n: monkeypatch.setenv("FEDSYNTH_INGEST_PROCESSES", str(n))


def volumes(folder):
    """A source of slices of volumes, one of which is broken."""
    rng = np.random.default_rng(0)
    rows = make_table(folder, subjects=9, images=1).assign(mask="")
    for number, name in enumerate(rows["image"]):
        rows.loc[number, "image"] = name.replace(".png", ".npy")
        (folder / name).unlink()
        np.save(folder / rows["image"][number], rng.uniform(0, 9, (5, 20, 24)))
    (folder / rows["image"][4]).write_bytes(b"no volume")
    rows.to_csv(folder / manifest.FILE, index=False)
    args = {"folder": str(folder), "slices": {"every": 2}}
    image = {"channels": {"us": "image"}, "labels": ["a", "b", "c"], "empty_labels": []}
    return tiny_params(source={"class_path": "fedsynth.sources.table.Table", "args": args}, image=image)


def of_kind(kind, folder):
    site = {"t1": {"percentiles": [1, 99], "of": "site"}}
    images = {"phantoms": {}, "3-D": {"size": [8, 12, 12]}, "derived": DERIVED, "scaled": {"scale": site}}
    return volumes(folder / "some files") if kind == "slices" else tiny_params(image=images[kind])


@pytest.mark.parametrize("kind", ["phantoms", "3-D", "derived", "scaled", "slices"])
def test_the_set_is_the_same_to_the_last_byte(tmp_path, in_processes, capsys, kind):
    asked = of_kind(kind, tmp_path)
    for processes in (1, 3):
        in_processes(processes)
        ingest(asked, tmp_path / str(processes))
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    for file in (tmp_path / "1").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "3" / file.relative_to(tmp_path / "1")).read_bytes(), file
    if kind == "slices":
        assert any("1 problems, the first: 004-0.npy cannot be read" in line for line in lines)


class Spoilt(Source):
    """One site of ten images; at the eighth something happens."""

    def __init__(self, happens):
        self.happens = happens

    def sites(self):
        return ["north"]

    def units(self, site):
        return range(10)

    def of_unit(self, site, unit):
        if unit == 7:
            self.happens()
        planes = {c: np.random.default_rng(unit).random((16, 16)) for c in ("t1", "t2", "lesion")}
        yield Record(planes, "infiltrating", f"patient {unit}", file=f"{unit}.png")


class InTurn(Spoilt):
    """A source that knows its records one after the other alone, as sources were that have no units."""

    def records(self, site):
        for unit in self.units(site):
            yield from self.of_unit(site, unit)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise manifest.SetError("7.png: the table contradicts itself")


def nothing():
    pass


@pytest.mark.parametrize(
    ("happens", "says"), [(kill, "north: a process was ended.*numbers 5 to 8"), (fail, "7.png: the")]
)
def test_a_process_that_fails_ends_it_with_a_reason_and_leaves_the_set_of_before(tmp_path, in_processes, happens, says):
    in_processes(2)
    ingest_site(tiny_params(), Spoilt(nothing), "north", tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "north").iterdir()}
    with pytest.raises(manifest.SetError, match=says):
        ingest_site(tiny_params(), Spoilt(happens), "north", tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "north").iterdir()} == before


def test_records_that_come_one_after_the_other_are_read_in_one_process(tmp_path, in_processes):
    in_processes(3)
    pids = []
    found = ingest_site(tiny_params(), InTurn(lambda: pids.append(os.getpid())), "north", tmp_path / "one")
    assert pids == [os.getpid()]
    assert manifest.digest(found) == manifest.digest(
        ingest_site(tiny_params(), Spoilt(nothing), "north", tmp_path / "three")
    )
    assert len(ImageSet.load(tmp_path / "one" / "north")) == 10
