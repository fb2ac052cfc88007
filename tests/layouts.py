"""Small folders in the layouts that image sets are published in, written anew by each test that reads one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image as Pillow

LABELS = ("none", "infiltrating", "extra_axial")


def volume(seed: int, size: tuple[int, ...] = (20, 24, 1)) -> np.ndarray:
    """(x, y, z), or (x, y, z, channels), of whole numbers."""
    return np.random.default_rng(seed).integers(0, 1000, size).astype(np.int16)


def marked(values: tuple[int, ...], size: tuple[int, int, int] = (20, 24, 1)) -> np.ndarray:
    """(x, y, z): a bar of four rows for each value."""
    found = np.zeros(size, np.uint8)
    for place, value in enumerate(values):
        found[4 * place : 4 * place + 4, 3:9] = value
    return found


def save(
    path: Path,
    array: np.ndarray,
    spacing: tuple[float, float, float] = (1.0, 2.0, 3.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Path:
    """As a volume in DICOM's directions (x to the left, y to the back, z up); `origin` in mm in NIfTI's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y, z = spacing
    affine = np.diag([-x, -y, z, 1])
    affine[:3, 3] = origin
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def draw(path: Path, array: np.ndarray, palette: bool = False) -> Path:
    """(H, W), or (H, W, 3), uint8 as a picture; with `palette` the values are places in one of odd colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Pillow.fromarray(array)
    if palette:
        picture.putpalette([0, 0, 0, 0, 200, 0, 255, 0, 0, 0, 0, 90] + [9] * (3 * 252))
    picture.save(path)
    return path


def make_decathlon(
    folder: Path,
    cases: int = 9,
    channels: tuple[str, ...] = ("t1",),
    size: tuple[int, int, int] = (20, 24, 1),
    nnunet: bool = False,
    table: bool = False,
    values: tuple[tuple[int, ...], ...] = ((), (1,), (1, 2)),
    **about: Any,
) -> Path:
    """Cases with labels of `values` in turn, channels on a fourth axis or, `nnunet`, in files of their own; `about`:
    dataset.json's.
    """
    names = [f"case_{i:03d}" for i in range(cases)]
    for i, name in enumerate(names):
        planes = np.stack([volume(10 * i + c, size) for c in range(len(channels))], -1)
        for c in range(len(channels)) if nnunet else ():
            save(folder / "imagesTr" / f"{name}_{c:04d}.nii.gz", planes[..., c])
        if not nnunet:
            save(folder / "imagesTr" / f"{name}.nii.gz", planes[..., 0] if len(channels) == 1 else planes)
        save(folder / "labelsTr" / f"{name}.nii.gz", marked(values[i % len(values)], size))
    named = {str(i): name for i, name in enumerate(channels)}
    if nnunet:
        said: dict[str, Any] = {
            "channel_names": named,
            "labels": {"background": 0, "core": 1, "halo": 2},
            "file_ending": ".nii.gz",
        }
    else:
        training = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names]
        said = {"modality": named, "labels": {"0": "background", "1": "core", "2": "halo"}, "training": training}
    (folder / "dataset.json").write_text(json.dumps(said | {"numTraining": cases} | about))
    if table:
        pd.DataFrame({"subject": names, "label": [LABELS[i % 3] for i in range(cases)]}).to_csv(
            folder / "cases.csv", index=False
        )
    return folder


def make_bids(folder: Path, subjects: int = 9, sessions: tuple[str, ...] = (), suffixes: tuple[str, ...] = ("T1w",),
              size: tuple[int, int, int] = (20, 24, 1), ending: str = "label-lesion_mask") -> Path:  # fmt: skip
    """Subjects sub-00 on, groups in turn, sites n and e in turn; the first group's masks are empty."""
    for i in range(subjects):
        for j, session in enumerate(sessions or ("",)):
            place, stem = Path(f"sub-{i:02d}") / session, "_".join(filter(None, [f"sub-{i:02d}", session]))
            for c, suffix in enumerate(suffixes):
                save(folder / place / "anat" / f"{stem}_{suffix}.nii.gz", volume(100 * i + 10 * j + c, size))
            mask = marked((1, 2) if i % 3 else (), size)
            save(folder / "derivatives" / "manual" / place / "anat" / f"{stem}_{ending}.nii.gz", mask)
    people = {
        "participant_id": [f"sub-{i:02d}" for i in range(subjects)],
        "group": [LABELS[i % 3] for i in range(subjects)],
    }
    people["site"] = ["ne"[i % 2] for i in range(subjects)]
    pd.DataFrame(people).to_csv(folder / "participants.tsv", sep="\t", index=False)
    return folder


def make_isic(folder: Path, pictures: int = 9, size: tuple[int, int] = (20, 24), **columns: Any) -> pd.DataFrame:
    """JPEGs and masks, a diagnosis of each in turn; `columns` are others of the table instead or besides, None for one
    that is not.
    """
    rng, names = np.random.default_rng(0), [f"ISIC_{i:07d}" for i in range(pictures)]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "truth").mkdir(exist_ok=True)
    for i, name in enumerate(names):
        Pillow.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(
            folder / "pictures" / f"{name}.jpg", quality=95
        )
        mask = np.zeros(size, np.uint8)
        mask[4:12, 6:15] = 255 if i % 3 else 0
        Pillow.fromarray(mask).save(folder / "truth" / f"{name}_segmentation.png")
    table = {"isic_id": names, "diagnosis": [LABELS[i % 3] for i in range(pictures)]} | columns
    found = pd.DataFrame({name: values for name, values in table.items() if values is not None})
    found.to_csv(folder / "metadata.csv", index=False)
    return found
