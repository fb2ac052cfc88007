"""Shards as their readers take them: the files of an image lie together under one key, the same kinds for each; no time
and no owner.
"""

import io
import itertools
import json
import re
import tarfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from fedsynth.data.dataset import ImageSet
from fedsynth.data.manifest import SetError
from fedsynth.exporters.webdataset import WebDataset
from fedsynth.params import ParamsError
from tests.sets import make_set, tiny_params


def shards(folder):
    """{shard: [(key, {ending: bytes})]} as WebDataset groups neighbours: the key ends at the first dot of the file's
    name.
    """
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            files = [
                (*re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", m.name).groups(), tar.extractfile(m).read()) for m in tar
            ]
        found[path.name] = [
            (k, {e: b for _, e, b in group}) for k, group in itertools.groupby(files, key=lambda f: f[0])
        ]
    return found


def exported(tmp_path, per_shard=5, image=None, **changes):
    params = tiny_params(image=image or {})
    made = make_set(tmp_path / "set", params, n=12)
    images = ImageSet(made.manifest.assign(**changes), made.images)
    WebDataset(per_shard).write(images, params.image, tmp_path / "out")
    return images, shards(tmp_path / "out")


def test_shards_hold_so_many_images_each_in_the_order_of_the_set(tmp_path):
    images, found = exported(tmp_path)
    assert {name: len(samples) for name, samples in found.items()} == {
        "shard-000000.tar": 5, "shard-000001.tar": 5, "shard-000002.tar": 2,
    }  # fmt: skip
    assert [key for samples in found.values() for key, _ in samples] == images.manifest["image_id"].tolist()
    table = pd.read_csv(tmp_path / "out" / "manifest.csv")
    in_shards = {(shard, key) for shard, samples in found.items() for key, _ in samples}
    assert set(zip(table["shard"], table["image_id"], strict=True)) == in_shards


def test_every_sample_has_a_file_for_each_channel_and_its_facts(tmp_path):
    images, found = exported(tmp_path, origin="synthetic", model="vae/abc", seed=7)
    samples = [sample for part in found.values() for sample in part]
    for (_, files), array, row in zip(samples, images.images, images.manifest.itertuples(), strict=True):
        assert sorted(files) == ["cls", "json", "lesion.png", "t1.png", "t2.png"]
        assert ["none", "infiltrating", "extra_axial"][int(files["cls"])] == row.label
        about = json.loads(files["json"])
        assert (about["label"], about["origin"], about["model"], about["seed"]) == (
            row.label,
            "synthetic",
            "vae/abc",
            7,
        )
        pixels = np.asarray(Pillow.open(io.BytesIO(files["t2.png"])))
        np.testing.assert_allclose(pixels / 127.5 - 1, array[1], atol=0.5 / 127)


def test_volumes_are_npy_with_nothing_lost(tmp_path):
    images, found = exported(tmp_path, image={"size": [8, 8, 6]})
    _, files = found["shard-000000.tar"][0]
    assert np.array_equal(np.load(io.BytesIO(files["t1.npy"])), images.images[0, 0])
    assert np.array_equal(np.load(io.BytesIO(files["lesion.npy"])), images.images[0, 2] > 0)
    assert json.loads(files["json"])["spacing_mm"] == "1x1x1"


def test_nothing_of_time_and_owner_is_in_a_shard(tmp_path):
    exported(tmp_path)
    for path in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(path) as tar:
            assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_names_at_which_a_reader_would_stumble_are_refused(tmp_path):
    with pytest.raises(ParamsError, match=r"\['T1', 't1'\].*lower case"):
        exported(tmp_path / "a", image={"channels": {"T1": "image", "t1": "image"}})
    with pytest.raises(SetError, match=r"image_id 'v1\.2' has a dot"):
        exported(tmp_path / "c", image_id="v1.2")
    with pytest.raises(ParamsError, match="per_shard"):
        WebDataset(0)
