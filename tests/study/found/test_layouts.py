"""Every layout of files, with a table or without, gives a study that passes checks, ingest and validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import layouts
from tests.study.found import folders
from tests.study.found.passing import passes
from tests.tables import make_table


def volumes(folder: Path) -> Path:
    """Volumes of 12 x 20 x 24 voxels in a folder, with segmentations beside them."""
    for i in range(12):
        size = (24, 20, 12)
        layouts.save(folder / f"case_{i:02d}.nii.gz", layouts.volume(i, size))
        layouts.save(folder / f"case_{i:02d}_seg.nii.gz", layouts.marked((1, 2), size))
    return folder


def table(folder: Path) -> Path:
    make_table(folder)
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
}


@pytest.mark.parametrize("name", MADE)
def test_a_layout_gives_a_study_that_passes_checks_ingest_and_validation(name, write, tmp_path):
    make, source = MADE[name]
    make(tmp_path / "data of Ärzte")
    _, params = write(tmp_path / "data of Ärzte")
    assert params.source.class_path.rpartition(".")[2] == source
    passes(tmp_path / "study", params)
