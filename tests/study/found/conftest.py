"""A study of a folder, as `fedsynth init --from` writes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedsynth import params as config
from fedsynth.params import Params
from fedsynth.study.found import Found, Machine, look, written

SMALL = Machine(cores=2, memory_gb=16)
Write = Callable[[Path], tuple[Found, Params]]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Looks at a folder, writes the study's files into tmp_path/study and reads its params.yaml."""
    root = tmp_path / "study"
    root.mkdir()
    monkeypatch.setenv("FEDSYNTH_ROOT", str(root))
    for name in ("FEDSYNTH_DATA", "FEDSYNTH_STATE", "FEDSYNTH_FEDERATION"):
        monkeypatch.delenv(name, raising=False)

    def _written(folder: Path) -> tuple[Found, Params]:
        found = look(folder)
        made = written(found, "trial", SMALL)
        (root / "params.yaml").write_text(made.params, encoding="utf-8")
        for name, text in made.files.items():
            (root / name).write_text(text, encoding="utf-8")
        return found, config.load(root / "params.yaml")

    return _written
