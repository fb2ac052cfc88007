"""A patient withdraws between two runs: the next run trains without them, and the version in use becomes stale."""

from __future__ import annotations

import json
import sys

import pytest

from fedsynth.data import manifest
from fedsynth.registry import aliases, promotion, versions
from tests.pipeline.conftest import change, command, copy, run

pytestmark = pytest.mark.pipeline


def one_model(raw):
    raw["models"] = {"gan": raw["models"]["gan"]}
    raw["gates"] = {}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The project after a run, a promotion, a withdrawal and a second run, with what was printed and seen between."""
    root, said = copy(tmp_path_factory.mktemp("withdrawal")), {}
    change(root, one_model)
    said["first"] = run(root)
    assert said["first"].returncode == 0, said["first"].stdout[-6000:]
    before = manifest.read(root / "data/sites/north")
    one = before.loc[before["split"] == "train", "subject"].iloc[0]
    digest = manifest.digest(before)
    fedsynth = (sys.executable, "-m", "fedsynth")
    promote = (
        sys.executable,
        "-m",
        "flows.promote",
        "gan",
        "--although",
        "the first",
        "--approve",
        "Ada",
        "--why",
        "x",
    )
    said["promote"] = command(*promote, cwd=root)
    said["forget"] = command(*fedsynth, "forget", one, "--site", "north", "--yes", cwd=root)
    forgotten = manifest.digest(manifest.read(root / "data/sites/north"))
    said["plan"] = command(*fedsynth, "plan", cwd=root)
    said["second"] = run(root)
    said["again"] = run(root)
    assert said["second"].returncode == 0, said["second"].stdout[-6000:]
    return root, said, one, digest, forgotten


def test_the_site_is_told_what_was_trained_with_them_and_what_is_out_of_reach(runs):
    said = runs[1]["forget"]
    assert said.returncode == 0, said.stdout
    assert "models that were trained with them:\n  - gan (20" in said.stdout
    assert "dvc gc --workspace" in said.stdout


def test_the_plan_says_that_all_is_done_again(runs):
    assert "the source's files have changed" in runs[1]["plan"].stdout


def test_the_next_run_reads_all_but_them_and_trains_anew(runs):
    root, said, one, digest, forgotten = runs
    now = manifest.read(root / "data/sites/north")
    assert one not in set(now["subject"])
    assert manifest.digest(now) == forgotten != digest
    about = json.loads((root / "models/gan/model.json").read_text())
    assert (
        about["digests"]["north"]
        == json.loads((root / "reports/validation.json").read_text())["sites"]["north"]["digest"]
    )
    assert "train@gan: round 2/2" in said["second"].stdout
    assert one.encode() not in (root / "data/source.json").read_bytes()
    assert one.encode() not in (root / "mlflow.db").read_bytes()


def test_the_version_in_use_is_stale_which_the_run_says_with_what_to_do(runs):
    root, said, *_ = runs
    tags = versions.version_of(root, "gan", 1).tags
    assert tags["stale"] == "data withdrawn"
    assert "stale" not in versions.version_of(root, "gan", 2).tags
    for name in ("second", "again"):
        assert "fedsynth-gan version 1, the champion, is stale, data withdrawn at north" in said[name].stdout
    assert "Nothing has changed since the last run." in said["again"].stdout


def test_it_is_replaced_and_not_brought_back_without_a_reason(runs):
    root = runs[0]
    aliases.promote(root, "gan", 2, "Ada", "trained without them", "none")
    with pytest.raises(promotion.Refused, match="version 1 is stale"):
        aliases.rollback(root, "gan", "Ada", "artefacts", "none")
    assert versions.alias_of(root, "gan", "champion") == "2"
