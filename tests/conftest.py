"""What tests of several files start from."""

from __future__ import annotations

import pytest

from tests.kits import Authority


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No tracking server and no experiment of whoever runs the tests."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def at_once(monkeypatch):
    """The servers here are on this machine: what they have to say of a kit comes at once."""
    monkeypatch.setattr("fedsynth.hospital.kit.ALERT_S", 0.2)
