"""The .npz: MedMNIST's arrays as others load them, several channels, masks, and a table that finds an image in it."""

import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from fedsynth.exporters.npz import NPZ
from fedsynth.params import ParamsError
from fedsynth.stages.ingest import ingest
from tests.sets import make_set, tiny_params


def exported(tmp_path, channels, **changes):
    params = tiny_params(image={"channels": channels})
    images = make_set(tmp_path / "set", params, n=12, **changes)
    NPZ().write(images, params.image, tmp_path / "out")
    return params, images, arrays_of(tmp_path / "out" / "images.npz")


def arrays_of(path):
    if not path.is_file():
        return {}
    with np.load(path) as file:
        return dict(file)


def test_a_synthetic_set_is_all_in_train_in_its_order(tmp_path):
    params, images, arrays = exported(tmp_path, {"t1": "image"}, split="train", origin="synthetic")
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "train_images": ("uint8", (12, 16, 16)),
        "train_labels": ("int64", (12, 1)),
    }  # a loader of an empty split would fail far from the reason
    np.testing.assert_allclose(arrays["train_images"] / 127.5 - 1, images.images[:, 0], atol=0.5 / 127)
    assert arrays["train_labels"][:, 0].tolist() == images.labels(params.image).tolist()


def test_each_of_several_channels_has_a_file_with_labels_and_masks(tmp_path):
    _, images, _ = exported(tmp_path, {"t1": "image", "T1": "image", "a": "mask", "b": "mask"}, split="train")
    files = pd.read_csv(tmp_path / "out" / "manifest.csv").drop_duplicates("modality").set_index("modality")["image"]
    assert files.str.casefold().nunique() == 2
    for place, channel in enumerate(("t1", "T1")):
        arrays = arrays_of(tmp_path / "out" / files[channel])
        np.testing.assert_allclose(arrays["train_images"] / 127.5 - 1, images.images[:, place], atol=0.5 / 127)
        assert arrays["train_labels"].shape == (12, 1)
        assert np.array_equal(arrays["train_masks"][..., 1], images.images[:, 3] > 0)


def test_colours_are_one_picture(tmp_path):
    _, images, arrays = exported(tmp_path, dict.fromkeys(("red", "green", "blue"), "image"), split="train")
    np.testing.assert_allclose(arrays["train_images"][..., 2] / 127.5 - 1, images.images[:, 2], atol=0.5 / 127)
    assert Pillow.fromarray(arrays["train_images"][0]).mode == "RGB"


def test_six_channels_come_back_and_five_masks_are_refused(tmp_path):
    params, _, _ = exported(tmp_path, dict.fromkeys("abcdef", "image"), split="train")
    source = NPZ().source(params.image, tmp_path / "out").model_dump()
    (rows,) = ingest(tiny_params(source=source, image=params.image.model_dump()), tmp_path / "again").values()
    assert (rows["problem"] == "").all()
    with pytest.raises(ParamsError, match=r"up to 4 mask channels, image\.channels names 5"):
        exported(tmp_path / "more", {"t1": "image"} | dict.fromkeys("abcde", "mask"))


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
