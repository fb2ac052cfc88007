"""PNG files as Hugging Face loads them, whatever the channels are called."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from fedsynth.exporters.png import PNG
from fedsynth.params import ParamsError
from tests.sets import make_set, tiny_params


def exported(tmp_path, channels, **changes):
    params = tiny_params(image={"channels": channels})
    images = make_set(tmp_path / "set", params, n=6, origin="synthetic", model="vae/abc", **changes)
    PNG().write(images, params.image, tmp_path / "out")
    return images, pd.read_csv(tmp_path / "out" / "metadata.csv", keep_default_na=False)


def pixels(tmp_path, name):
    return np.asarray(Pillow.open(tmp_path / "out" / name)) / 127.5 - 1


def test_metadata_has_a_row_for_each_image_and_a_column_for_each_channel(tmp_path):
    channels = {"t1": "image", "t2": "image", "core": "mask", "halo": "mask"}
    images, table = exported(tmp_path, channels)
    assert table["image_id"].tolist() == images.manifest["image_id"].tolist()
    assert table["file_name"].tolist() == table["t1_file_name"].tolist()
    assert table["mask_file_name"].tolist() == table["core_file_name"].tolist()
    for place, channel in enumerate(channels):
        np.testing.assert_allclose(
            pixels(tmp_path, table[f"{channel}_file_name"][1]), images.images[1, place], atol=0.5 / 127
        )


def test_a_channel_with_the_name_of_a_column_has_another(tmp_path):
    _, table = exported(tmp_path, {"label": "image", "image": "image", "mask": "mask"})
    assert set(table.columns) >= {"label_channel_file_name", "image_channel_file_name", "label", "file_name"}
    assert set(table["label"]) == {"none", "infiltrating", "extra_axial"}


def test_several_masks_are_all_in_the_table(tmp_path):
    images, _ = exported(tmp_path, {"t1": "image", "core": "mask", "halo": "mask"})
    table = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert table["mask"].tolist() == table["mask_core"].tolist()
    assert np.array_equal(pixels(tmp_path, table["mask_halo"][2]) > 0, images.images[2, 2] > 0)


def test_a_word_for_a_split_is_not_in_a_file_s_name(tmp_path):
    _, table = exported(tmp_path, {"t1": "image", "val": "mask"}, image_id=[f"test_{i}" for i in range(6)])
    assert table["file_name"].str.startswith("images/xtest_").all()
    assert table["mask_file_name"].str.contains("-xval-").all()
    assert table["image_id"].tolist() == [f"test_{i}" for i in range(6)]


def test_names_lead_out_of_no_folder_and_differ_without_regard_to_case(tmp_path):
    ids = ["../../up", "a/b", "a\\b", "A", "a", "ü"]
    _, table = exported(tmp_path, {"t1": "image", "T1": "image"}, image_id=ids)
    names = [*table["t1_file_name"], *table["T1_file_name"]]
    assert len({name.casefold() for name in names}) == 12
    assert {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png")} == set(names)
    assert not list(tmp_path.parent.glob("up*"))


def test_volumes_are_refused(tmp_path):
    params = tiny_params(image={"size": [4, 6, 6]})
    with pytest.raises(ParamsError, match=r"PNG holds slices.*nifti\.NIfTI"):
        PNG().write(make_set(tmp_path / "set", params, n=1), params.image, tmp_path / "out")
