"""The .npz: MedMNIST's arrays as others load them, several channels, masks, and a table that finds an image in it."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from fedsynth.exporters.npz import NPZ
from fedsynth.params import ParamsError
from fedsynth.stages.ingest import ingest
from tests.sets import make_set, tiny_params


def exported(tmp_path, channels, **changes):
    params = tiny_params(image={"channels": channels})
    images = make_set(tmp_path / "set", params, n=12, **changes)
    NPZ().write(images, params.image, tmp_path / "out")
    with np.load(tmp_path / "out" / "images.npz") as file:
        return params, images, dict(file)


def test_a_synthetic_set_is_all_in_train_in_its_order(tmp_path):
    params, images, arrays = exported(tmp_path, {"t1": "image"}, split="train", origin="synthetic")
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "train_images": ("uint8", (12, 16, 16)), "train_labels": ("int64", (12, 1)),
        "val_images": ("uint8", (0, 16, 16)), "val_labels": ("int64", (0, 1)),
        "test_images": ("uint8", (0, 16, 16)), "test_labels": ("int64", (0, 1)),
    }  # fmt: skip
    np.testing.assert_allclose(arrays["train_images"] / 127.5 - 1, images.images[:, 0], atol=0.5 / 127)
    assert arrays["train_labels"][:, 0].tolist() == images.labels(params.image).tolist()


def test_several_channels_are_last_in_the_order_of_the_params(tmp_path):
    _, images, arrays = exported(tmp_path, {"t1": "image", "t2": "image", "a": "mask", "b": "mask"}, split="train")
    assert arrays["train_images"].shape == arrays["train_masks"].shape == (12, 16, 16, 2)
    np.testing.assert_allclose(arrays["train_images"][..., 1] / 127.5 - 1, images.images[:, 1], atol=0.5 / 127)
    assert np.array_equal(arrays["train_masks"][..., 1], images.images[:, 3] > 0)


def test_four_channels_come_back_and_five_are_refused(tmp_path):
    four = dict.fromkeys("abcd", "image")
    params, _, _ = exported(tmp_path, four, split="train")
    source = NPZ().source(params.image, tmp_path / "out").model_dump()
    (rows,) = ingest(tiny_params(source=source, image=params.image.model_dump()), tmp_path / "again").values()
    assert (rows["problem"] == "").all()
    with pytest.raises(ParamsError, match=r"up to 4 image channels, image\.channels names 5"):
        exported(tmp_path / "more", four | {"e": "image"})


def test_the_table_finds_each_image(tmp_path):
    _, images, arrays = exported(tmp_path, {"t1": "image"})
    table = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert table["array"].nunique() > 1
    stored = dict(zip(images.manifest["image_id"], images.images[:, 0], strict=True))
    for row in table.itertuples():
        np.testing.assert_allclose(arrays[row.array][row.place] / 127.5 - 1, stored[row.image_id], atol=0.5 / 127)


def test_no_time_is_in_the_archive(tmp_path):
    exported(tmp_path, {"t1": "image"})
    with zipfile.ZipFile(tmp_path / "out" / "images.npz") as file:
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
