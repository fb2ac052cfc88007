"""nnU-Net's folders: its dataset.json, label values, masks that overlap, images in which nothing is marked."""

import json

import nibabel as nib
import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.exporters.decathlon import Decathlon
from fedsynth.stages.ingest import ingest
from tests.sets import make_set, tiny_params


def exported(tmp_path, channels, change=lambda arrays: arrays, **image):
    params = tiny_params(image={"channels": channels} | image)
    made = make_set(tmp_path / "set", params, n=6, origin="synthetic", model="vae/abc")
    images = ImageSet(made.manifest, change(made.images.copy()))
    Decathlon().write(images, params.image, tmp_path / "out")
    return params, images, json.loads((tmp_path / "out" / "dataset.json").read_text())


def label_of(folder, name):
    return np.asarray(nib.load(folder / "labelsTr" / f"{name}.nii.gz").dataobj).T


def test_dataset_json_is_as_nnunet_reads_it(tmp_path):
    _, images, about = exported(tmp_path, {"t1": "image", "t2": "image", "core": "mask", "halo": "mask"}, apart)
    assert about["channel_names"] == {"0": "t1", "1": "t2"}
    assert about["labels"] == {"background": 0, "core": 1, "halo": 2}
    assert (about["numTraining"], about["file_ending"]) == (6, ".nii.gz")
    assert "regions_class_order" not in about
    assert "synthetic images by vae/abc" in about["description"]
    written = sorted(p.name for p in (tmp_path / "out" / "imagesTr").iterdir())
    assert written == sorted(f"{i}_{c:04d}.nii.gz" for i in images.manifest["image_id"] for c in (0, 1))


def apart(arrays):
    """The second mask where the first is not, in one row."""
    arrays[:, 3] = -1
    arrays[:, 3, 0] = np.where(arrays[:, 2, 0] > 0, -1, 1)
    return arrays


def test_masks_apart_are_values_and_nothing_marked_is_all_zero(tmp_path):
    params, images, _ = exported(tmp_path, {"t1": "image", "core": "mask"})
    assert params.image.empty_labels == ["none"]
    for row, array in zip(images.manifest.itertuples(), images.images, strict=True):
        label = label_of(tmp_path / "out", row.image_id)
        assert label.dtype == np.uint8
        assert np.array_equal(label[0], array[1] > 0)
        assert label.any() == (row.label != "none")


def test_masks_that_overlap_are_regions_and_come_back_whole(tmp_path):
    channels = {"t1": "image", "whole": "mask", "core": "mask", "edge": "mask"}

    def nested(arrays):
        arrays[:, 2], arrays[:, 3] = arrays[:, 1], -arrays[:, 1]
        arrays[:, 2, :8] = -1
        return arrays

    params, images, about = exported(tmp_path, channels, nested)
    assert about["labels"] == {"background": 0, "whole": [1, 3, 5, 7], "core": [2, 3, 6, 7], "edge": [4, 5, 6, 7]}
    assert predicted(about, images.images[:, 1:] > 0) == {"whole": 1, "core": 1, "edge": 1}
    source = Decathlon().source(params.image, tmp_path / "out").model_dump()
    ingest(tiny_params(source=source, image=params.image.model_dump()), tmp_path / "again")
    again = ImageSet.load(tmp_path / "again" / "north")
    assert np.array_equal(again.images[:, 1:], images.images[:, 1:])


def predicted(about, masks):
    """Dice of each region (params.yaml's order in `masks`, (N, M, *S)) where nnU-Net predicts them without an error: it
    draws regions over each other with the values of regions_class_order, and then looks for the values of each.
    """
    names = ["whole", "core", "edge"]
    drawn = np.zeros((len(masks), *masks.shape[2:]), int)
    regions = {name: values for name, values in about["labels"].items() if name != "background"}
    for name, value in zip(regions, about["regions_class_order"], strict=True):
        drawn[masks[:, names.index(name)]] = value
    found = {name: np.isin(drawn, regions[name]) for name in names}
    return {
        name: 2 * (found[name] & mask).sum() / (found[name].sum() + mask.sum())
        for name, mask in zip(names, masks.swapaxes(0, 1), strict=True)
    }


def test_monai_finds_images_labels_and_classes_in_its_list(tmp_path):
    _, images, about = exported(tmp_path, {"t1": "image", "t2": "image", "core": "mask"})
    first, name = about["training"][0], images.manifest["image_id"][0]
    assert first == {
        "image": [f"imagesTr/{name}_0000.nii.gz", f"imagesTr/{name}_0001.nii.gz"],
        "label": f"labelsTr/{name}.nii.gz",
        "class": 0,
    }
    assert about["classes"] == {"0": "none", "1": "infiltrating", "2": "extra_axial"}


def test_without_mask_channels_there_are_no_labels(tmp_path):
    _, images, about = exported(tmp_path, {"t1": "image"})
    assert about["labels"] == {"background": 0}
    places = [["none", "infiltrating", "extra_axial"].index(label) for label in images.manifest["label"]]
    assert [item["label"] for item in about["training"]] == places
    assert not (tmp_path / "out" / "labelsTr").exists()
