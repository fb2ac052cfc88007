"""Every real set gives a params.yaml with which checks, ingest, validation and policies pass."""

from __future__ import annotations

import pytest

from fedsynth.hospital.policy import load
from fedsynth.study.found import refused
from tests.realdata import FOLDER, real
from tests.study.found.passing import passes

REAL = ["brats-pairs", "busi", "dicom", "hippocampus", "nuclei", "rbc", "retina"]


@pytest.mark.parametrize("name", REAL)
def test_a_real_set_gives_a_study_that_passes_checks_ingest_and_validation(name, write, tmp_path):
    if name == "dicom":
        pytest.importorskip("highdicom", reason="DICOM comes with the extra `dicom`")
    _, params = write(real(name))
    rehearsal = tmp_path / "study" / refused.FILE
    assert rehearsal.exists() == (name == "dicom")  # 5 subjects, and policies ask for one more
    passes(tmp_path / "study", params, load(rehearsal)[0] if rehearsal.exists() else None)


def test_no_real_set_is_forgotten():
    if not FOLDER.is_dir():
        pytest.skip(f"no {FOLDER}: set FEDSYNTH_TEST_DATA to the folder of the real test images")
    assert sorted(path.name for path in FOLDER.iterdir() if path.is_dir()) == REAL
