"""Links for the simulator: a path with blanks gets one without, an environment's interpreter works from there."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from nvflare_jobs.federation.interface import FederationError
from nvflare_jobs.federation.links import Links


@pytest.fixture
def links():
    made = Links()
    yield made
    made.close()


def test_a_path_without_blanks_stays_as_it_is(tmp_path, links):
    assert links.plain(tmp_path) == tmp_path
    assert links.python(sys.executable, sys.prefix) == sys.executable


@pytest.mark.parametrize("name", ["Prüf ung", "it's", 'say "x"', "a\\b", "a\tb"])
def test_any_other_has_a_link_that_ends_with_the_run(tmp_path, links, name):
    folder = tmp_path / name
    folder.mkdir()
    link = links.plain(folder)
    assert not any(c.isspace() or c in "'\"\\" for c in str(link))
    (link / "log.txt").write_text("here", encoding="utf-8")
    assert (folder / "log.txt").read_text(encoding="utf-8") == "here"
    links.close()
    assert not link.parent.exists()
    assert (folder / "log.txt").is_file()


def test_links_lie_elsewhere_where_tmpdir_has_blanks(tmp_path, links, monkeypatch):
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a b"))
    assert " " not in str(links.plain(tmp_path / "a b"))


def test_where_no_folder_for_links_is_left_the_error_says_what_to_do(tmp_path, links, monkeypatch):
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a b"))
    monkeypatch.setattr("nvflare_jobs.federation.links.PLACES", ())
    with pytest.raises(FederationError, match="set TMPDIR"):
        links.plain(tmp_path / "a b")


def test_the_interpreter_of_an_environment_with_blanks_runs_by_a_link(tmp_path, links):
    prefix = tmp_path / "my venv"
    venv.create(prefix, with_pip=False, symlinks=True)
    python = links.python(str(prefix / "bin" / "python"), str(prefix))
    assert " " not in python
    said = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert Path(said.stdout.strip()).resolve() == prefix.resolve()
