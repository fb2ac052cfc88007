"""Every exporter by the clients that people use: pixels, masks, labels and geometry come back, whatever the set has."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pandas as pd
import pytest

from fedsynth import exporters
from tests.contracts.kinds import classes
from tests.exporters import clients
from tests.sets import make_set, tiny_params

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}  # read when datasets is imported

BYTE, TWELVE_BITS, FLOAT = 0.51 / 127.5, 0.51 / 2047.5, 1e-6
READ_BY = {
    "PNG": [clients.pillow, clients.imagefolder],
    "NIfTI": [clients.nibabel, clients.simpleitk],
    "Decathlon": [clients.monai, clients.nnunet],
    "WebDataset": [clients.webdataset, clients.huggingface_webdataset],
    "NPZ": [clients.medmnist],
    "DICOM": [clients.highdicom, clients.pydicom, clients.simpleitk_dicom],
}
EXACT = {"PNG": BYTE, "NIfTI": FLOAT, "Decathlon": FLOAT, "NPZ": BYTE, "DICOM": TWELVE_BITS}
NO_SPACING = ("PNG", "NPZ")  # formats without a place for it: the table has it
NOMINAL = ("NIfTI", "Decathlon", "DICOM")  # formats that must have one
NO_MASKS = (clients.simpleitk_dicom,)  # clients that do not read them
EXPORTERS = {c.__name__: c for c in classes(exporters, exporters.Exporter)}
SIZES = {2: ([12, 16], ["", "0.5x2"]), 3: ([5, 12, 10], ["", "3x0.5x2"])}
LABELS = (["ill"], ["none", "infiltrating", "extra_axial"])


def sets():
    """Every combination of axes, spacing, image channels, mask channels and classes."""
    for dims, channels, masks, labels in itertools.product((2, 3), (1, 2, 3, 4), (0, 1, 2), LABELS):
        for spacing in SIZES[dims][1]:
            said = f"{dims}D-{channels}ch-{masks}m-{len(labels)}cl-{'mm' if spacing else 'no mm'}"
            yield pytest.param(dims, channels, masks, labels, spacing, id=said)


def made(folder, dims, channels, masks, labels, spacing):
    """A set whose images' names begin with "test", which Hugging Face takes for a split."""
    named = {f"t{c}": "image" for c in range(channels)} | {f"m{c}": "mask" for c in range(masks)}
    empty = ["none"] if "none" in labels else []
    image = {"size": SIZES[dims][0], "channels": named, "labels": labels, "empty_labels": empty}
    params = tiny_params(image=image)
    facts = {"split": "train", "origin": "synthetic", "model": "vae/abc", "seed": 7, "spacing_mm": spacing}
    images = make_set(folder / "set", params, site="test", n=4, **facts)
    if masks == 2:
        images.images[:, -1, ..., :6] = -1  # the second mask lies in the first
    return params.image, images


@pytest.mark.parametrize("name", sorted(EXPORTERS))
def test_every_exporter_has_a_client(name):
    assert READ_BY[name]


@pytest.mark.parametrize("name", sorted(EXPORTERS))
@pytest.mark.parametrize(("dims", "channels", "masks", "labels", "spacing"), sets())
def test_clients_see_the_pixels_masks_labels_and_geometry(tmp_path, name, dims, channels, masks, labels, spacing):
    if name == "PNG" and dims == 3:
        pytest.skip("PNG holds slices")
    image, images = made(tmp_path, dims, channels, masks, labels, spacing)
    folder = tmp_path / "out"
    EXPORTERS[name]().write(images, image, folder)
    for client in READ_BY[name]:
        found = {seen.image_id: seen for seen in client(folder, image)}
        assert len(found) == len(images)
        for row, array in zip(images.manifest.itertuples(), images.images, strict=True):
            seen = found[row.image_id]
            wanted = array[: len(image.images)] if client in NO_MASKS else array
            exact = EXACT.get(name, BYTE if dims == 2 else FLOAT)
            np.testing.assert_allclose(seen.array, wanted, atol=exact, err_msg=client.__name__)
            assert seen.label == row.label
            if name not in NO_SPACING:
                assert seen.spacing_mm == (told(spacing) or ((1.0,) * dims if name in NOMINAL else None))
    assert set(pd.read_csv(folder / "manifest.csv", keep_default_na=False)["spacing_mm"]) == {spacing}


def told(spacing):
    return tuple(map(float, spacing.split("x"))) if spacing else None
