"""What the units of every source must hold to: they are read in several processes, and again only once changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedsynth import sources
from fedsynth.data import workers
from fedsynth.params import Block
from fedsynth.sources.medmnist import MedMNIST
from fedsynth.stages.ingest import ingest
from tests.contracts.kinds import classes
from tests.contracts.test_sources import IMAGE, arguments
from tests.sets import tiny_params


@pytest.fixture(params=classes(sources, sources.Source), ids=lambda c: c.__name__)
def block(request, tmp_path):
    cls = request.param
    return Block(class_path=f"{cls.__module__}.{cls.__name__}", args=arguments(cls.__name__, tmp_path))


def test_what_its_units_hold_is_what_it_yields(block):
    """Each unit is read by a source of its own, as another process would, and the last one first."""
    source = block.build(image=IMAGE, seed=1)
    for site in source.sites():
        units = source.units(site)
        assert units is not None, "all sources of this package are read in several processes"
        turned = [list(block.build(image=IMAGE, seed=1).of_unit(site, unit)) for unit in units[::-1]]
        apart = [record for records in turned[::-1] for record in records]
        for a, b in zip(apart, source.records(site), strict=True):
            assert (a.label, a.subject, a.file, a.split, a.warnings) == (
                b.label,
                b.subject,
                b.file,
                b.split,
                b.warnings,
            )
            assert all(np.array_equal(a.channels[c], b.channels[c]) for c in a.channels)


STAMPS = """
import json, sys
from fedsynth.params import Block, Image
said = json.loads(sys.argv[1])
source = Block(**said["block"]).build(image=Image(**said["image"]), seed=1)
print(json.dumps([source.stamp(site, unit) for site in source.sites() for unit in source.units(site)]))
"""


def test_a_unit_s_stamp_is_the_same_in_another_process_and_another_once_a_file_has_changed(block):
    def stamps():
        source = block.build(image=IMAGE, seed=1)
        return [source.stamp(site, unit) for site in source.sites() for unit in source.units(site)]

    before, source = stamps(), block.build(image=IMAGE, seed=1)
    if not any(before):
        assert isinstance(source, MedMNIST) or not source.paths(), "files that are each an image's own have stamps"
        return
    assert len(set(before)) == len(before)
    said = json.dumps({"block": block.model_dump(mode="json"), "image": IMAGE.model_dump(mode="json")})
    done = subprocess.run([sys.executable, "-c", STAMPS, said], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONHASHSEED": "7"}, cwd=Path(__file__).parents[2])  # fmt: skip
    assert json.loads(done.stdout) == before
    images = [path for path in sorted(source.paths()) if path.suffix in (".png", ".gz", ".jpg", ".dcm", ".nii")]
    for path in images[:: max(1, len(images) // 4)]:
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))
        after = stamps()
        assert after != before, path
        before = after


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_in_several_processes_and_where_nothing_has_changed_the_set_is_the_same(block, tmp_path, monkeypatch, capsys):
    asked = tiny_params(source=block.model_dump(), image=IMAGE.model_dump())
    ingest(asked, tmp_path / "one")
    monkeypatch.setattr(workers, "SOON_S", -1)
    monkeypatch.setenv("FEDSYNTH_INGEST_PROCESSES", "2")
    source, sets = (
        block.build(image=IMAGE, seed=asked.seed),
        [path.parent for path in (tmp_path / "one").glob("*/*.csv")],
    )
    for again in (False, True):
        capsys.readouterr()
        ingest(asked, tmp_path / "sets", tmp_path / "state")
        stamped = any(source.stamp(site, unit) for site in source.sites() for unit in source.units(site))
        assert capsys.readouterr().out.count(" · 0 read anew") == len(sets) * (again and stamped)
        for folder in sets:
            for file in folder.iterdir():
                assert file.read_bytes() == (tmp_path / "sets" / folder.name / file.name).read_bytes(), file
