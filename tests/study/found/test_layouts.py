"""Every layout is recognised, and gives a params.yaml with which checks, ingest and validation pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsynth import checks
from fedsynth.params import names
from fedsynth.stages.ingest import ingest
from fedsynth.validation.expectations import validate
from tests import dicoms, layouts
from tests.realdata import FOLDER, real
from tests.study.found import folders
from tests.tables import make_table


def volumes(folder: Path) -> Path:
    """Volumes of 12 x 20 x 24 voxels in a folder, with segmentations beside them."""
    for i in range(12):
        size = (24, 20, 12)
        layouts.save(folder / f"case_{i:02d}.nii.gz", layouts.volume(i, size))
        layouts.save(folder / f"case_{i:02d}_seg.nii.gz", layouts.marked((1, 2), size))
    return folder


def archive(folder: Path) -> Path:
    dicoms.make_archive(folder, 12)
    (folder / "labels.csv").unlink()
    return folder


def table(folder: Path) -> Path:
    make_table(folder)
    return folder


def isic(folder: Path) -> Path:
    layouts.make_isic(folder, 48)
    return folder


MADE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "table": (table, "Table"),
    "by_class": (folders.by_class, "Table"),
    "by_class_with_masks": (lambda folder: folders.by_class(folder, 24, masks=True), "Table"),
    "flat": (folders.flat, "Table"),
    "beside": (folders.beside, "Table"),
    "of_patients": (folders.of_patients, "Table"),
    "other_columns": (folders.other_columns, "Table"),
    "volumes": (volumes, "Table"),
    "medmnist": (lambda folder: folders.medmnist(folder / "set.npz"), "MedMNIST"),
    "decathlon": (lambda folder: layouts.make_decathlon(folder, 24), "Decathlon"),
    "decathlon_with_a_table": (lambda folder: layouts.make_decathlon(folder, 48, table=True), "Decathlon"),
    "nnunet": (lambda folder: layouts.make_decathlon(folder, 36, ("T1", "T2"), nnunet=True), "Decathlon"),
    "bids": (lambda folder: layouts.make_bids(folder, 36), "BIDS"),
    "bids_with_sessions": (lambda folder: layouts.make_bids(folder, 24, ("ses-1", "ses-2"), ("T1w", "T2w")), "BIDS"),
    "isic": (isic, "ISIC"),
    "dicom": (archive, "DICOM"),
    "dicom_with_a_table": (lambda folder: dicoms.make_archive(folder, 36), "DICOM"),
}


def passes(root: Path, params: Any) -> None:
    """Checks find nothing, and each site's images pass validation."""
    _, problems = checks.of_file(root / "params.yaml")
    assert not problems, "\n".join(map(str, problems))
    for site in ingest(params, root / "data"):
        verdict = validate(root / "data" / names.key(site), params, site, None)
        assert verdict.passed, verdict.message()


@pytest.mark.parametrize("name", MADE)
def test_a_layout_gives_a_study_that_passes_checks_ingest_and_validation(name, write, tmp_path):
    make, source = MADE[name]
    if source == "DICOM":
        pytest.importorskip("highdicom", reason="DICOM comes with the extra `dicom`")
    make(tmp_path / "data of Ärzte")
    _, params = write(tmp_path / "data of Ärzte")
    assert params.source.class_path.rpartition(".")[2] == source
    passes(tmp_path / "study", params)


REAL = ["brats-pairs", "busi", "dicom", "hippocampus", "nuclei", "rbc", "retina"]


@pytest.mark.parametrize("name", REAL)
def test_a_real_set_gives_a_study_that_passes_checks_ingest_and_validation(name, write, tmp_path):
    if name == "dicom":
        pytest.importorskip("highdicom", reason="DICOM comes with the extra `dicom`")
    _, params = write(real(name))
    passes(tmp_path / "study", params)


def test_no_real_set_is_forgotten():
    if not FOLDER.is_dir():
        pytest.skip(f"no {FOLDER}: set FEDSYNTH_TEST_DATA to the folder of the real test images")
    assert sorted(path.name for path in FOLDER.iterdir() if path.is_dir()) == REAL
