"""What every exporter must hold to: everything is written, the table is one that our own source reads, and the pixels come back."""

import numpy as np
import pandas as pd
import pytest

from fedsynth import exporters, manifest
from fedsynth.dataset import ImageSet
from fedsynth.params import ParamsError
from fedsynth.stages.ingest import ingest
from tests.contracts.kinds import classes
from tests.sets import tiny_params

EXPORTERS = classes(exporters, exporters.Exporter)
VOLUMES = {"NIfTI"}  # those that can write three dimensions


@pytest.fixture(params=EXPORTERS, ids=lambda c: c.__name__)
def exporter(request):
    return request.param()


def real_set(folder, **image):
    """A site's set by ingest, whose images fill [-1, 1] as a round trip must."""
    params = tiny_params(image=image)
    ingest(params, folder)
    return params, ImageSet.load(folder / "north")


def read_again(params, folder, to):
    source = {"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(folder)}}
    ingest(tiny_params(source=source, image=params.image.model_dump()), to)
    return ImageSet.load(to / "north")


@pytest.mark.parametrize(
    "channels", [{"t1": "image"}, {"t1": "image", "lesion": "mask"}, {"t1": "image", "t2": "image", "lesion": "mask"}], ids=len
)
def test_our_own_source_reads_it_again(exporter, tmp_path, channels):
    params, images = real_set(tmp_path / "real", channels=channels)
    exporter.write(images, params.image, tmp_path / "export")
    again = read_again(params, tmp_path / "export", tmp_path / "again")
    for column in ("label", "subject", "site", "split", "mask_area", "modality"):
        assert again.manifest[column].tolist() == images.manifest[column].tolist()
    np.testing.assert_allclose(again.images, images.images, atol=1.01 / 255)


def test_volumes_come_back_with_their_spacing_or_are_refused(exporter, tmp_path):
    params, images = real_set(tmp_path / "real", size=[8, 12, 10])
    if type(exporter).__name__ not in VOLUMES:
        with pytest.raises(ParamsError, match="nifti"):
            exporter.write(images, params.image, tmp_path / "export")
        return
    exporter.write(images, params.image, tmp_path / "export")
    again = read_again(params, tmp_path / "export", tmp_path / "again")
    np.testing.assert_allclose(again.images, images.images, atol=1e-6)
    assert again.manifest["spacing_mm"].tolist() == images.manifest["spacing_mm"].tolist()


def test_every_file_of_the_table_is_there_and_no_other(exporter, tmp_path):
    params, images = real_set(tmp_path / "real")
    exporter.write(images, params.image, tmp_path / "export")
    table = pd.read_csv(tmp_path / "export" / manifest.FILE, keep_default_na=False)
    written = {p.relative_to(tmp_path / "export").as_posix() for p in (tmp_path / "export").rglob("*") if p.is_file()}
    assert written == {manifest.FILE} | set(table["image"]) | set(table["mask"])
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
