"""What every source must hold to, whatever it reads. A new source needs arguments in `arguments`."""

import numpy as np
import pytest

from fedsynth import sources
from fedsynth.params import Block, Image
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
