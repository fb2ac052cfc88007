"""No tracking server, study and experiment of whoever runs the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

VARIABLES = ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME")


@contextmanager
def alone(*more: str) -> Iterator[pytest.MonkeyPatch]:
    """For what a module makes once; the fixture of the same name in conftest.py does it for each test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*VARIABLES, *more):
            patch.delenv(name, raising=False)
        yield patch
