"""What every exporter must hold to: everything is written and in the table, our own source reads it again, and the
pixels come back.
"""

import numpy as np
import pandas as pd
import pytest

from fedsynth import exporters
from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet
from fedsynth.params import ParamsError
from fedsynth.stages.ingest import ingest
from tests.archives import unpack
from tests.contracts.kinds import classes
from tests.sets import tiny_params

EXPORTERS = classes(exporters, exporters.Exporter)
VOLUMES = {
    "NIfTI": 1e-6,
    "Decathlon": 1e-6,
    "DICOM": 1.01 / 4095,
    "WebDataset": 1e-6,
    "NPZ": 1.01 / 255,
}  # those that can write three dimensions, and how exactly
NO_ROOM = {  # what a format has no room for: it is in the table, but our source does not find it in the images' files
    "DICOM": {"subject", "split"},  # read, a subject is a hash, by which the split goes
    "NPZ": {"order", "subject", "site", "spacing_mm"},  # its images lie by split
    "WebDataset": {"spacing_mm"},
}


@pytest.fixture(params=EXPORTERS, ids=lambda c: c.__name__)
def exporter(request):
    return request.param()


def real_set(folder, **image):
    """A site's set by ingest, whose images fill [-1, 1] as a round trip must."""
    params = tiny_params(image={"scale": {"percentiles": [0, 100], "of": "image"}} | image)
    ingest(params, folder)
    return params, ImageSet.load(folder / "north")


def round_trip(exporter, params, images, folder):
    """The exported table (a row for each image), the set in the table's order, and the set as our own source reads it
    again.
    """
    exporter.write(images, params.image, folder / "export")
    unpack(folder / "export")
    source = exporter.source(params.image, folder / "export").model_dump()
    (site,) = ingest(tiny_params(source=source, image=params.image.model_dump()), folder / "again")
    table = pd.read_csv(folder / "export" / manifest.FILE, dtype=str, keep_default_na=False).drop_duplicates("image_id")
    places = pd.Index(images.manifest["image_id"]).get_indexer(table["image_id"])
    by_split = "order" in NO_ROOM.get(type(exporter).__name__, ())
    assert (sorted(places) if by_split else places.tolist()) == list(range(len(images)))
    ordered = ImageSet(images.manifest.iloc[places].reset_index(drop=True), images.images[places])
    return table, ordered, ImageSet.load(folder / "again" / site)


def same_rows(exporter, table, images, again, columns):
    """The columns came back; what the format has no room for is in the table at least."""
    for column in columns:
        found = table if column in NO_ROOM.get(type(exporter).__name__, ()) else again.manifest
        assert found[column].tolist() == images.manifest[column].tolist(), column


@pytest.mark.parametrize(
    "channels",
    [{"t1": "image"}, {"t1": "image", "lesion": "mask"}, {"t1": "image", "t2": "image", "lesion": "mask"}],
    ids=len,
)
def test_our_own_source_reads_it_again(exporter, tmp_path, channels):
    params, images = real_set(tmp_path / "real", channels=channels)
    table, images, again = round_trip(exporter, params, images, tmp_path)
    same_rows(exporter, table, images, again, ["label", "subject", "site", "split", "mask_area", "modality"])
    np.testing.assert_allclose(again.images, images.images, atol=1.01 / 255)


def test_volumes_come_back_with_their_spacing_or_are_refused(exporter, tmp_path):
    params, images = real_set(tmp_path / "real", size=[8, 12, 10])
    if type(exporter).__name__ not in VOLUMES:
        with pytest.raises(ParamsError, match="nifti"):
            exporter.write(images, params.image, tmp_path / "export")
        return
    table, images, again = round_trip(exporter, params, images, tmp_path)
    np.testing.assert_allclose(again.images, images.images, atol=VOLUMES[type(exporter).__name__])
    same_rows(exporter, table, images, again, ["label", "spacing_mm"])


def test_every_file_of_the_table_is_there_and_no_other(exporter, tmp_path):
    params, images = real_set(tmp_path / "real")
    exporter.write(images, params.image, tmp_path / "export")
    shards = unpack(tmp_path / "export")
    table = pd.read_csv(tmp_path / "export" / manifest.FILE, keep_default_na=False)
    written = {p.relative_to(tmp_path / "export").as_posix() for p in (tmp_path / "export").rglob("*") if p.is_file()}
    assert written == {manifest.FILE}.union(*(table[c] for c in ("image", "mask", "about", "class_file") if c in table))
    assert shards == sorted(set(table.get("shard", [])))
    assert len(table) == len(images) * len(params.image.images)


def test_where_it_came_from_is_in_the_table(exporter, tmp_path):
    params, images = real_set(tmp_path / "real")
    synthetic = ImageSet(images.manifest.assign(origin="synthetic", model="vae:abc", seed=7), images.images)
    exporter.write(synthetic, params.image, tmp_path / "export")
    table = pd.read_csv(tmp_path / "export" / manifest.FILE)
    assert set(table["origin"]) == {"synthetic"}
    assert set(table["model"]) == {"vae:abc"}
    assert set(table["seed"]) == {7}


def test_the_same_set_gives_the_same_bytes(exporter, tmp_path):
    params, images = real_set(tmp_path / "real")
    for name in ("a", "b"):
        exporter.write(images, params.image, tmp_path / name)
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_rows_with_a_problem_are_left_out(exporter, tmp_path):
    params, images = real_set(tmp_path / "real")
    images.manifest.loc[0, "problem"] = "scan.png cannot be read"
    exporter.write(images, params.image, tmp_path / "export")
    table = pd.read_csv(tmp_path / "export" / manifest.FILE)
    assert set(table["image_id"]) == set(images.manifest["image_id"][1:])
