"""A run's end removes what earlier ones have left: here, and at the server of a federation that outlives the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedsynth.settings import Settings
from flows import tidy


@pytest.fixture
def asked(tmp_path, monkeypatch) -> list[tuple[Path, int]]:
    """Folder and number of runs of each call that goes to a server."""
    from nvflare_jobs.federation import submitted

    (tmp_path / "params.yaml").write_text("keep_runs: 2\n")
    monkeypatch.setenv("FEDSYNTH_ROOT", str(tmp_path))
    found: list[tuple[Path, int]] = []
    monkeypatch.setattr(submitted, "bound", lambda of, keep: found.append((of.root, keep)) or "it refuses")
    return found


def left(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".work/jobs/train-vae").iterdir())


@pytest.mark.parametrize(("federation", "said"), [("simulator", ""), ("poc", ""), ("production", "it refuses")])
def test_it_is_as_much_as_params_says(asked, tmp_path, federation, said):
    for name in "abc":
        (tmp_path / ".work/jobs/train-vae" / name).mkdir(parents=True)
    assert tidy.after(replace(Settings.read(), federation=federation)) == said
    assert len(left(tmp_path)) == 2
    assert asked == ([(tmp_path, 2)] if said else [])
