"""Real phantoms of one site, and others that no model of it saw."""

from __future__ import annotations

import pytest

from fedsynth.data.dataset import ImageSet
from tests.measures.phantoms import phantoms


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return phantoms(tmp_path_factory.mktemp("real"), 180)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return phantoms(tmp_path_factory.mktemp("fresh"), 300, seed=9)
