"""A version is promoted by a person's approval or by a named policy, from the command line as a user has it, over a Prefect server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fedsynth import registry, track
from tests.pipeline.conftest import ROOT, command, environment
from tests.pipeline.test_deployments import prefect_server
from tests.sets import tiny_params
from tests.trained import trained

pytestmark = pytest.mark.pipeline

PROMOTE = (sys.executable, "-m", "flows.promote")


@pytest.fixture(scope="module", autouse=True)
def alone():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "FEDSYNTH_ROOT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A project with two versions of one model."""
    root, params = tmp_path_factory.mktemp("registry"), tiny_params()
    for seed in (1, 2):
        trained(root, params, seed=seed)
        with track.Tracker(root, params) as tracker:
            tracker.publish("vae")
    return root


@pytest.fixture
def root(two):
    """The project, with version 1 as the champion."""
    client = registry.client_of(two)
    client.delete_registered_model_alias("fedsynth-vae", registry.PREVIOUS)
    client.set_registered_model_alias("fedsynth-vae", registry.CHAMPION, "1")
    return two


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


def promote(root: Path, *words: str, **env: str) -> subprocess.CompletedProcess:
    return command(*PROMOTE, *words, cwd=root, PYTHONPATH=str(ROOT), **env)


def waiting(root: Path, api: str, *words: str) -> tuple[subprocess.Popen, str]:
    """A promotion that waits for its answer, and the id of its flow run."""
    process = subprocess.Popen([*PROMOTE, *words], cwd=root, env=environment(root) | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": api},
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"flows\.promote answer (\S+) --by", line)
    assert found, line + process.communicate(timeout=60)[0]
    return process, found[1]


def champion(root: Path) -> str | None:
    return registry.alias_of(root, "vae", registry.CHAMPION)


def test_a_person_approves_and_the_version_says_who_why_and_in_which_flow_run(root, api):
    process, run = waiting(root, api, "vae")
    assert champion(root) == "1", "nothing moves before the answer"
    answered = promote(root, "answer", run, "--by", "Ada", "--why", "the table of worth", PREFECT_API_URL=api)
    assert answered.returncode == 0, answered.stdout
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "fedsynth-vae version 2 is the champion, in place of version 1" in said
    assert (champion(root), registry.alias_of(root, "vae", registry.PREVIOUS)) == ("2", "1")
    tags = registry.version_of(root, "vae", 2).tags
    assert (tags["promotion.by"], tags["promotion.why"], tags["promotion.flow_run_id"]) == ("Ada", "the table of worth", run)
    again = promote(root, "answer", run, "--by", "Ada", "--why", "twice", PREFECT_API_URL=api)
    assert again.returncode == 1
    assert "waits for no answer" in again.stdout


def test_what_is_refused_is_not_promoted(root, api):
    process, run = waiting(root, api, "vae", "--version", "2")
    promote(root, "answer", run, "--by", "Grace", "--why", "masks look wrong", "--refuse", PREFECT_API_URL=api)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: fedsynth-vae version 2 was refused by Grace: masks look wrong" in said
    assert champion(root) == "1"


def test_what_nobody_answers_is_not_promoted(root, api):
    done = promote(root, "vae", "--wait", "4", PREFECT_API_URL=api)
    assert done.returncode == 1
    assert "error: nobody approved fedsynth-vae within 4 s; nothing was promoted; run the flow again to ask again" in done.stdout
    assert champion(root) == "1"


def test_a_named_policy_promotes_without_a_question_and_rollback_needs_no_server(root, api):
    done = promote(root, "vae", "--approve", "nightly policy", "--why", "newest", PREFECT_API_URL=api)
    assert done.returncode == 0, done.stdout
    assert champion(root) == "2"
    assert registry.version_of(root, "vae", 2).tags["promotion.by"] == "nightly policy"
    again = promote(root, "vae", "--approve", "nightly policy", "--why", "newest", PREFECT_API_URL=api)
    assert (again.returncode, again.stdout) == (0, "fedsynth-vae version 2 is the champion already\n")
    back = promote(root, "rollback", "vae", "--by", "Ada", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert (back.returncode, back.stdout) == (0, "fedsynth-vae version 1 is the champion again, in place of version 2\n")
    assert champion(root) == "1"


def test_what_is_not_there_is_one_line_that_says_what_is(root, api):
    for words, line in (
        (("gan",), "error: the registry has no version of a model 'gan'; models that have one: vae\n"),
        (("vae", "--version", "7"), "error: fedsynth-vae has no version 7; there are 1, 2\n"),
    ):
        done = promote(root, *words, PREFECT_API_URL=api)
        assert (done.returncode, done.stdout) == (1, line)


def test_without_a_server_nobody_is_asked_in_vain(root):
    done = promote(root, "vae", PREFECT_API_URL="")
    assert done.returncode == 1
    assert done.stdout.startswith("error: nobody could approve: there is no Prefect server; set PREFECT_API_URL")


def test_the_facts_show_the_versions_tags_its_scores_beside_the_champions_and_that_no_gate_was_computed(root, monkeypatch):
    from flows.promote import describe

    monkeypatch.setattr(registry, "scores_of", lambda root, version: {"c/retained": 0.5} if str(version.version) == "2" else {})
    text = describe(root, "vae", 2, "1")
    assert "Gates: none computed." in text
    assert "| score | version 2 | champion (version 1) |" in text
    assert "| c/retained | 0.500 | not computed |" in text
    assert "| flare.job_id | job-2 |" in text
    monkeypatch.setattr(registry, "scores_of", lambda root, version: {})
    assert "No scores: this version has not been scored." in describe(root, "vae", 2, None)
