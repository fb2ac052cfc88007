"""Every format is recognised, and gives a params.yaml with which checks, ingest and validation pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import dicoms, layouts
from tests.study.found import folders
from tests.study.found.passing import passes


def archive(folder: Path) -> Path:
    dicoms.make_archive(folder, 12)
    (folder / "labels.csv").unlink()
    return folder


def isic(folder: Path) -> Path:
    layouts.make_isic(folder, 48)
    return folder


MADE: dict[str, tuple[Callable[[Path], Any], str]] = {
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


@pytest.mark.parametrize("name", MADE)
def test_a_format_gives_a_study_that_passes_checks_ingest_and_validation(name, write, tmp_path):
    make, source = MADE[name]
    if source == "DICOM":
        pytest.importorskip("highdicom", reason="DICOM comes with the extra `dicom`")
    make(tmp_path / "data of Ärzte")
    _, params = write(tmp_path / "data of Ärzte")
    assert params.source.class_path.rpartition(".")[2] == source
    passes(tmp_path / "study", params)
