"""Small trainings are faster on one thread."""

import pytest

from tests import threads

one_thread = pytest.fixture(scope="package", autouse=True)(threads.one_thread)
