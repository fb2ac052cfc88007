"""How people read what the exporters write: each function takes an exported folder and gives what a client sees in it.

The clients turn, stack and scale in their own ways; here their answers are brought to (C, *S) in [-1, 1] in the order
of params.yaml, and to a spacing in mm in the order of the array's axes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.params import Image

LPS = np.diag([1.0, 1.0, 1.0])  # columns to the patient's left, rows to the back, slices to the head


@dataclass
class Seen:
    """An image as a client sees it; `spacing_mm` is None where the format has none."""

    image_id: str
    array: np.ndarray
    label: str
    spacing_mm: tuple[float, ...] | None = None


Client = Callable[[Path, Image], Iterator[Seen]]


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "manifest.csv", dtype={"label": str}, keep_default_na=False)


def by_table(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from table_of(folder).groupby("image_id", sort=False)


def mask_columns(image: Image) -> list[str]:
    return ["mask"] if len(image.masks) == 1 else [f"mask_{c}" for c in image.masks]


def signs(mask: np.ndarray) -> np.ndarray:
    return np.where(mask > 0, 1.0, -1.0)


def pillow(folder: Path, image: Image) -> Iterator[Seen]:
    """PNG by pandas and Pillow."""
    from PIL import Image as Pillow

    def plane(name: str) -> np.ndarray:
        with Pillow.open(folder / name) as picture:
            assert picture.mode == "L"
            return np.asarray(picture) / 127.5 - 1

    for image_id, rows in by_table(folder):
        files = rows.set_index("modality")["image"]
        masks = [signs(plane(rows[column].iloc[0])) for column in mask_columns(image)]
        yield Seen(image_id, np.stack([*(plane(files[c]) for c in image.images), *masks]), rows["label"].iloc[0])


def imagefolder(folder: Path, image: Image) -> Iterator[Seen]:
    """PNG by Hugging Face's datasets."""
    import datasets

    found = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(folder.parent / "cache"))
    assert list(found) == ["train"]
    rows = found["train"]
    names = [*(["image"] if len(image.images) == 1 else image.images)]
    names += [] if not image.masks else ["mask"] if len(image.masks) == 1 else image.masks
    for row in rows:
        assert np.array_equal(np.asarray(row["image"]), np.asarray(row[names[0]]))
        assert row["label"] == image.labels[row["class"]]
        assert not image.masks or np.array_equal(np.asarray(row["mask"]), np.asarray(row[names[len(image.images)]]))
        yield Seen(row["image_id"], np.stack([np.asarray(row[n]) / 127.5 - 1 for n in names]), row["label"])


def nibabel(folder: Path, image: Image) -> Iterator[Seen]:
    import nibabel as nib

    def read(name: str) -> tuple[np.ndarray, tuple[float, ...]]:
        file: Any = nib.load(folder / name)
        assert nib.aff2axcodes(file.affine) == ("L", "P", "S")
        assert file.header.get_xyzt_units()[0] == "mm"
        return file.get_fdata().T, tuple(map(float, file.header.get_zooms()))[::-1]

    yield from _volumes(folder, image, read)


def simpleitk(folder: Path, image: Image) -> Iterator[Seen]:
    import SimpleITK as sitk

    def read(name: str) -> tuple[np.ndarray, tuple[float, ...]]:
        file = sitk.ReadImage(str(folder / name))
        assert np.allclose(file.GetDirection(), LPS.ravel())
        return sitk.GetArrayFromImage(file), file.GetSpacing()[::-1]

    yield from _volumes(folder, image, read)


def _volumes(folder: Path, image: Image, read: Callable[[str], tuple[np.ndarray, Any]]) -> Iterator[Seen]:
    for image_id, rows in by_table(folder):
        files = rows.set_index("modality")["image"]
        planes = [read(files[c]) for c in image.images]
        masks = [read(rows[column].iloc[0]) for column in (mask_columns(image) if image.masks else [])]
        arrays = [array for array, _ in planes] + [signs(array) for array, _ in masks]
        assert len({spacing for _, spacing in [*planes, *masks]}) == 1
        yield seen_of_volume(image, image_id, np.stack(arrays), planes[0][1], rows["label"].iloc[0])


def seen_of_volume(image: Image, image_id: str, array: np.ndarray, spacing: Any, label: str) -> Seen:
    """Of (C, D, H, W); a slice is a volume of one."""
    spacing = tuple(float(s) for s in spacing)
    if len(image.size) == 2:
        assert array.shape[1] == 1
        array, spacing = array[:, 0], spacing[1:]
    return Seen(image_id, array, label, spacing)


def whole_monai() -> Any:
    """MONAI's module of LoadImaged with nibabel: in this process MONAI may have been imported without
    (fedsynth/networks/monai_imports.py).
    """
    import importlib

    import monai.data.image_reader as readers
    import monai.transforms.io.array
    import monai.transforms.io.dictionary as found

    if not readers.has_nib:
        for module in (readers, monai.transforms.io.array, found):
            importlib.reload(module)
    return found


def monai(folder: Path, image: Image) -> Iterator[Seen]:
    """The Decathlon's list by MONAI."""
    from monai.data import load_decathlon_datalist

    LoadImaged = whole_monai().LoadImaged
    about = json.loads((folder / "dataset.json").read_text())
    listed = load_decathlon_datalist(folder / "dataset.json", is_segmentation=bool(image.masks))
    keys = ["image", "label"] if image.masks else ["image"]
    for item in listed:
        loaded = LoadImaged(keys, ensure_channel_first=True)(item)
        spacing = loaded["image"].pixdim.tolist()[::-1]
        assert np.allclose(np.diag(loaded["image"].affine)[:3], np.array(spacing[::-1]) * [-1, -1, 1])
        planes = list(np.asarray(loaded["image"]))
        if image.masks:
            assert np.allclose(loaded["label"].affine, loaded["image"].affine)
            values = np.asarray(loaded["label"])[0]
            planes += [signs(np.isin(values, about["labels"][name])) for name in image.masks]
            assert set(np.unique(values)) <= {v for named in about["labels"].values() for v in np.ravel(named)}
        else:
            assert loaded["label"] == loaded["class"]
        array = np.stack([plane.transpose() for plane in planes])  # MONAI's axes are x, y, z
        image_id = Path(np.ravel(item["image"])[0]).name[: -len("_0000.nii.gz")]
        yield seen_of_volume(image, image_id, array, spacing, about["classes"][str(loaded["class"])])


def nnunet(folder: Path, image: Image) -> Iterator[Seen]:
    """The Decathlon's folders as nnU-Net 2.8.1 lists and reads them (`create_lists_from_splitted_dataset_folder`,
    `SimpleITKIO`, `LabelManager`); run once with the package itself, which the tests do not install.
    """
    import SimpleITK as sitk

    about = json.loads((folder / "dataset.json").read_text())
    ending = about["file_ending"]
    cases = sorted({p.name[: -len(ending) - 5] for p in (folder / "imagesTr").iterdir()})
    assert len(cases) == about["numTraining"]
    regions = {n: v for n, v in about["labels"].items() if n != "background"}
    values = sorted({int(v) for named in regions.values() for v in np.ravel(named)})
    assert values == list(range(1, len(values) + 1))
    if any(isinstance(v, list) for v in regions.values()):
        order = about["regions_class_order"]
        assert all(value in region for value, region in zip(order, regions.values(), strict=True))
    names = table_of(folder).drop_duplicates("image_id").set_index("image_id")["label"]
    for case in cases:
        files = [folder / "imagesTr" / f"{case}_{int(c):04d}{ending}" for c in about["channel_names"]]
        label = [folder / "labelsTr" / f"{case}{ending}"] if image.masks else []
        read = [sitk.ReadImage(str(path)) for path in [*files, *label]]
        assert len({(f.GetSize(), f.GetSpacing(), f.GetOrigin(), f.GetDirection()) for f in read}) == 1
        arrays = [sitk.GetArrayFromImage(f) for f in read]
        masks = [signs(np.isin(arrays[-1], regions[name])) for name in image.masks]
        array = np.stack([*arrays[: len(files)], *masks])
        yield seen_of_volume(image, case, array, read[0].GetSpacing()[::-1], names[case])


def webdataset(folder: Path, image: Image) -> Iterator[Seen]:
    import webdataset as wds

    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    for sample in wds.WebDataset(shards, shardshuffle=False).decode("l8"):
        yield _sample(image, sample["__key__"], sample)


def huggingface_webdataset(folder: Path, image: Image) -> Iterator[Seen]:
    import datasets

    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    cache = str(folder.parent / "cache")
    for sample in datasets.load_dataset("webdataset", data_files={"train": shards}, cache_dir=cache)["train"]:
        yield _sample(image, sample["__key__"], sample)


def _sample(image: Image, key: str, sample: dict[str, Any]) -> Seen:
    ending = "png" if len(image.size) == 2 else "npy"
    parts = {c: np.asarray(sample[f"{c}.{ending}"], np.float32) for c in image.channels}
    planes = [parts[c] / 127.5 - 1 if ending == "png" else parts[c] for c in image.images]
    about = sample["json"]
    spacing = tuple(map(float, about["spacing_mm"].split("x"))) if about["spacing_mm"] else None
    assert image.labels[int(sample["cls"])] == about["label"]
    return Seen(key, np.stack([*planes, *(signs(parts[c]) for c in image.masks)]), about["label"], spacing)


def medmnist(folder: Path, image: Image) -> Iterator[Seen]:
    """As MedMNIST2D and MedMNIST3D of medmnist 3.0.2 take an item of `train`; the package itself knows its own sets
    alone.
    """
    from PIL import Image as Pillow

    found = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            assert {name.partition("_")[0] for name in file} == {"train"}  # no split without images
            found.append((path.name, dict(file)))
    for image_id, rows in by_table(folder):
        place, planes = int(rows["place"].iloc[0]), []
        for _, row in rows.iterrows():
            arrays = next(arrays for name, arrays in found if name == row["image"])
            item = arrays["train_images"][place]
            if len(image.size) == 2:
                assert Pillow.fromarray(item).mode == "L"
            else:
                assert item.ndim == 3
            planes.append(item / 127.5 - 1)
        masks = arrays["train_masks"][place] if image.masks else np.zeros((*image.size, 0))
        masks = masks[..., None] if masks.ndim == len(image.size) else masks
        label = image.labels[int(arrays["train_labels"][place].astype(int)[0])]
        yield Seen(image_id, np.stack([*planes, *(signs(m) for m in np.moveaxis(masks, -1, 0))]), label)


def highdicom(folder: Path, image: Image) -> Iterator[Seen]:
    """Volumes of images and segmentations by highdicom, which needs their geometry."""
    import highdicom as hd

    for image_id, rows in by_table(folder):
        # left to itself highdicom stacks slices from head to feet, by its right-handed axes
        volumes = [hd.imread(folder / name).get_volume().to_patient_orientation("HPL") for name in rows["image"]]
        assert all(v.geometry_equal(volumes[0]) for v in volumes)
        arrays = [v.array / 4095 * 2 - 1 for v in volumes]
        if image.masks:
            drawn = hd.seg.segread(folder / rows["mask"].iloc[0])
            assert [drawn.get_segment_description(n).segment_label for n in drawn.segment_numbers] == image.masks
            masks = drawn.get_volume().to_patient_orientation("HPL")
            assert masks.geometry_equal(volumes[0])
            arrays += [signs(m) for m in np.moveaxis(masks.array, -1, 0)]
        yield seen_of_volume(image, image_id, np.stack(arrays), volumes[0].spacing, rows["label"].iloc[0])


def pydicom(folder: Path, image: Image) -> Iterator[Seen]:
    import pydicom as reader

    for image_id, rows in by_table(folder):
        files = [reader.dcmread(folder / name) for name in rows["image"]]
        arrays = [f.pixel_array / 4095 * 2 - 1 for f in files]
        if image.masks:
            arrays += list(_pydicom_masks(reader.dcmread(folder / rows["mask"].iloc[0]), image))
        yield Seen(image_id, np.stack(arrays), rows["label"].iloc[0], _pydicom_spacing(files[0]))


def _pydicom_masks(file: Any, image: Image) -> np.ndarray:
    """(M, *S): each frame says which segment it is of, and where it lies."""
    masks = np.full((len(image.masks), *image.size), np.nan)
    shared = file.SharedFunctionalGroupsSequence[0]
    thickness = float(shared.PixelMeasuresSequence[0].SliceThickness)
    for frame, group in zip(np.atleast_3d(file.pixel_array.T).T, file.PerFrameFunctionalGroupsSequence, strict=True):
        own = group if "SegmentIdentificationSequence" in group else shared
        segment = own.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1
        place = round(float(group.PlanePositionSequence[0].ImagePositionPatient[2]) / thickness)
        masks[(segment, place) if len(image.size) == 3 else segment] = signs(frame)
    return masks


def _pydicom_spacing(file: Any) -> tuple[float, ...]:
    if "PixelSpacing" in file:
        return tuple(map(float, file.PixelSpacing))
    measures = file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    return tuple(map(float, [measures.SpacingBetweenSlices, *measures.PixelSpacing]))


def simpleitk_dicom(folder: Path, image: Image) -> Iterator[Seen]:
    import SimpleITK as sitk

    for image_id, rows in by_table(folder):
        files = [sitk.ReadImage(str(folder / name)) for name in rows["image"]]
        assert all(np.allclose(f.GetDirection(), LPS.ravel()) for f in files)
        arrays = np.stack([sitk.GetArrayFromImage(f) / 4095 * 2 - 1 for f in files])
        yield seen_of_volume(image, image_id, arrays, files[0].GetSpacing()[::-1], rows["label"].iloc[0])
