"""Where the real images for tests lie; they are not part of the project."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("FEDSYNTH_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


def real(name: str) -> Path:
    """The folder of a set. Skips the test where it is not there."""
    if not (FOLDER / name / "manifest.csv").is_file():
        pytest.skip(f"no {name} in {FOLDER}: set FEDSYNTH_TEST_DATA to the folder of the real test images")
    return FOLDER / name
