"""A run's end removes what earlier ones have left: here, and at the server of a federation that outlives the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

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


def test_a_run_with_nothing_to_do_does_it_too(asked, tmp_path, monkeypatch, capsys):
    """Over a federation its sites were asked, which is a job each time."""
    from flows import __main__ as command

    production = replace(Settings.read(), federation="production")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command.Settings, "read", lambda: production)
    monkeypatch.setattr(command.dvcx, "allow_no_git", lambda root: "")
    monkeypatch.setattr(command.checks, "load_or_list", lambda *of: SimpleNamespace(models={"vae": None}))
    monkeypatch.setattr(command.summary, "unchanged", lambda *of: {"lines": []})
    assert command._run([], []) == ({"lines": []}, "")
    assert capsys.readouterr().out == "Nothing has changed since the last run.\nit refuses\n"
    assert asked == [(tmp_path, 2)]
