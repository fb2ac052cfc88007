"""What every source must hold to, whatever it reads. A new source needs arguments in `arguments`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedsynth import sources
from fedsynth.params import Block, Image
from fedsynth.sources.medmnist import MedMNIST
from fedsynth.stages.ingest import ingest
from tests.archives import make_npz
from tests.contracts.kinds import classes
from tests.dicoms import make_archive
from tests.layouts import make_bids, make_decathlon, make_isic
from tests.sets import tiny_params
from tests.tables import make_table

IMAGE = Image(
    size=(16, 16),
    channels={"t1": {"image": "luminance", "of": ["rgb"]}, "lesion": "mask"},
    labels=["none", "infiltrating", "extra_axial"],
)


def arguments(name, folder):  # noqa: PLR0911
    if name == "Procedural":
        return {"images": 4}
    if name == "Phantom":
        return {"sites": {"north": {"images": 9}, "east": {"images": 6}}}
    if name == "Table":
        if not (folder / "files").exists():
            make_table(folder / "files", subjects=9)
        return {"folder": str(folder / "files"), "labels": dict(zip("abc", IMAGE.labels, strict=True))}
    if name == "MedMNIST":
        make_npz(folder / "set.npz", masks=True)
        return {"file": str(folder / "set.npz"), "labels": IMAGE.labels, "partition": {"kind": "iid", "sites": 2}}
    if name == "Decathlon":
        make_decathlon(folder / "task", table=True)
        return {"folder": str(folder / "task"), "table": "cases.csv", "partition": {"kind": "iid", "sites": 2}}
    if name == "BIDS":
        make_bids(folder / "study", sessions=("ses-1", "ses-2"))
        return {"folder": str(folder / "study"), "label": "group", "channels": {"t1": "T1w"}}
    if name == "ISIC":
        make_isic(folder / "skin")
        return {"folder": str(folder / "skin"), "partition": {"kind": "iid", "sites": 2}}
    if name == "DICOM":
        make_archive(folder / "archive")
        return {
            "folder": str(folder / "archive"),
            "table": "labels.csv",
            "partition": {"kind": "iid", "sites": 2},
        }
    raise NotImplementedError(f"give {name} small arguments here, so that it is tested")


@pytest.fixture(params=classes(sources, sources.Source), ids=lambda c: c.__name__)
def block(request, tmp_path):
    cls = request.param
    return Block(class_path=f"{cls.__module__}.{cls.__name__}", args=arguments(cls.__name__, tmp_path))


def test_it_names_its_sites_in_a_fixed_order(block):
    first, second = (block.build(image=IMAGE, seed=1).sites() for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first) > 0


def test_the_same_seed_yields_the_same_records(block):
    first, second = (block.build(image=IMAGE, seed=1) for _ in range(2))
    for site in first.sites():
        for a, b in zip(first.records(site), second.records(site), strict=True):
            assert (a.label, a.subject, a.file, a.spacing_mm) == (b.label, b.subject, b.file, b.spacing_mm)
            assert all(np.array_equal(a.channels[c], b.channels[c]) for c in a.channels)


def test_a_record_has_the_channels_asked_for_in_one_size(block):
    source = block.build(image=IMAGE, seed=1)
    for site in source.sites():
        for record in source.records(site):
            # a mask that is not there is not known
            assert list(record.channels) in (list(IMAGE.channels), IMAGE.images)
            assert {plane.ndim for plane in record.channels.values()} == {len(IMAGE.size)}
            assert len({plane.shape for plane in record.channels.values()}) == 1
            assert not record.problem
            assert record.file
            assert record.subject
            assert record.label in IMAGE.labels


def test_no_subject_is_at_two_sites(block):
    source = block.build(image=IMAGE, seed=1)
    subjects = [{r.subject for r in source.records(site)} for site in source.sites()]
    assert sum(map(len, subjects)) == len(set().union(*subjects))


def test_what_is_listed_before_reading_is_what_is_read(block):
    source = block.build(image=IMAGE, seed=1)
    listed = source.listed()
    assert list(listed.columns) == sources.LISTED
    read = [
        (site, r.subject, r.label, r.split) for site in source.sites() for r in source.records(site) if not r.problem
    ]
    assert sorted(listed.itertuples(index=False, name=None)) == sorted(read) or listed.empty


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


def test_it_can_be_ingested(block, tmp_path):
    asked = tiny_params(source=block.model_dump(), image=IMAGE.model_dump())
    for rows in ingest(asked, tmp_path / "sets").values():
        assert len(rows)
        assert (rows["problem"] == "").all()


def test_its_arguments_stay_as_they_were_given(block):
    source = block.build(image=IMAGE, seed=1)
    for name, value in block.args.items():
        attribute = getattr(source, name)
        assert attribute == value or callable(attribute)  # Phantom's `sites` is also what a source must be able to tell
