"""A version is promoted where its gates hold, by a person's approval or a named policy, from the command line as a user
has it.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedsynth.registry import aliases, by_hand, promotion, tracking, versions
from tests.judged import SITES, judged, rows
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


PARAMS = tiny_params(gates={"require": ["classification/retained >= 0.5 by point"], "warn": ["kid <= 1"]})
# What networks reach that saw a version's synthetic images alone, where real ones give 0.9: version 2 fails its gate, 3
# was never scored, 4 is worse than 1.
REACHED = {1: 0.7, 2: 0.3, 3: None, 4: 0.6, 5: 0.8}


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """A project with five versions of one model."""
    root = tmp_path_factory.mktemp("registry")
    (root / "params.yaml").write_text("study: fedsynth\n")
    for seed, reached in REACHED.items():
        trained(root, PARAMS, seed=seed)
        shutil.rmtree(root / "reports", ignore_errors=True)
        if reached is not None:
            judged(root, rows=rows("synthetic", "vae", dict.fromkeys(SITES, reached)))
        with tracking.Tracker(root, PARAMS) as tracker:
            tracker.publish("vae")
    return root


@pytest.fixture
def root(five):
    """The project, with version 1 as the champion."""
    client = versions.client_of(five)
    by_hand.point(client, "fedsynth-vae", aliases.PREVIOUS, None)
    by_hand.point(client, "fedsynth-vae", aliases.CHAMPION, "1")
    return five


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


def promote(root: Path, *words: str, **env: str) -> subprocess.CompletedProcess:
    return command(*PROMOTE, *words, cwd=root, PYTHONPATH=str(ROOT), **env)


def promoted(root: Path, api: str, *words: str) -> SimpleNamespace:
    """The same in this process, because to load Prefect and MLflow takes seconds."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.promote import main

    said = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        temporary_settings({PREFECT_API_URL: api}),
        redirect_stdout(said),
        redirect_stderr(said),
    ):
        patch.chdir(root)
        return SimpleNamespace(returncode=main(list(words)), stdout=said.getvalue())


def waiting(root: Path, api: str, *words: str) -> tuple[subprocess.Popen, str]:
    """A promotion that waits for its answer, and the id of its flow run."""
    process = subprocess.Popen(
        [*PROMOTE, *words],
        cwd=root,
        env=environment(root) | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": api},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"fedsynth answer (\S+) --by", line)
    assert found, line + process.communicate(timeout=60)[0]
    return process, found[1]


def champion(root: Path) -> str | None:
    return versions.alias_of(root, "vae", aliases.CHAMPION)


def test_a_person_approves_and_the_version_says_who_why_and_in_which_flow_run(root, api):
    process, run = waiting(root, api, "vae")
    assert champion(root) == "1", "nothing moves before the answer"
    answered = promote(root, "answer", run, "--by", "Ada", "--why", "the table of worth", PREFECT_API_URL=api)
    assert answered.returncode == 0, answered.stdout
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "fedsynth-vae version 5 is the champion, in place of version 1" in said
    assert (champion(root), versions.alias_of(root, "vae", aliases.PREVIOUS)) == ("5", "1")
    tags = versions.version_of(root, "vae", 5).tags
    assert (tags["promotion.by"], tags["promotion.why"], tags["promotion.flow_run_id"]) == (
        "Ada",
        "the table of worth",
        run,
    )
    assert (tags["promotion.gates"], tags["promotion.warnings"].partition(":")[0]) == (
        "passed, with 1 warning",
        "kid <= 1",
    )
    assert tags["promotion.compared"].endswith("better on the same references")
    again = promoted(root, api, "answer", run, "--by", "Ada", "--why", "twice")
    assert again.returncode == 1
    assert "waits for no answer" in again.stdout


def test_what_is_refused_is_not_promoted(root, api):
    process, run = waiting(root, api, "vae", "--version", "5")
    promoted(root, api, "answer", run, "--by", "Grace", "--why", "masks look wrong", "--refuse")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: fedsynth-vae version 5 was refused by Grace: masks look wrong" in said
    assert champion(root) == "1"


def test_what_nobody_answers_is_not_promoted(root, api):
    done = promote(root, "vae", "--wait", "4", PREFECT_API_URL=api)
    assert done.returncode == 1
    # the server may end the run a moment before the run itself does: it knows the model only
    line = (
        r"error: nobody approved fedsynth-vae( version 5)? within 4 s; nothing was promoted; run the flow again to ask"
        r" again\n"
    )
    assert re.search(line, done.stdout), done.stdout
    assert champion(root) == "1"


def test_a_named_policy_promotes_without_a_question_and_rollback_needs_no_server(root, api):
    done = promote(root, "vae", "--approve", "nightly policy", "--why", "newest", PREFECT_API_URL=api)
    assert done.returncode == 0, done.stdout
    assert champion(root) == "5"
    assert versions.version_of(root, "vae", 5).tags["promotion.by"] == "nightly policy"
    again = promoted(root, api, "vae", "--approve", "nightly policy", "--why", "newest")
    assert (again.returncode, again.stdout) == (0, "fedsynth-vae version 5 is the champion already\n")
    back = promote(root, "rollback", "vae", "--by", "Ada", "--why", "worse", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert (back.returncode, back.stdout) == (
        0,
        "fedsynth-vae version 1 is the champion again, in place of version 5\n",
    )
    assert champion(root) == "1"


def test_what_is_not_there_is_one_line_that_says_what_is(root, api):
    for words, line in (
        (("gan",), "error: the registry has no version of a model 'gan'; models that have one: vae\n"),
        (("vae", "--version", "7"), "error: fedsynth-vae has no version 7; there are 1, 2, 3, 4, 5\n"),
    ):
        done = promoted(root, api, *words)
        assert (done.returncode, done.stdout) == (1, line)


def test_without_a_server_nobody_is_asked_in_vain(root):
    done = promote(root, "vae", PREFECT_API_URL="")
    assert done.returncode == 1
    assert done.stdout.startswith("error: nobody could approve: there is no Prefect server; set PREFECT_API_URL")


def test_a_version_whose_gates_do_not_hold_is_refused_whoever_approves_and_whatever_is_said(root, api):
    words = ("--approve", "nightly policy", "--why", "newest", "--although", "we need it")
    done = promoted(root, api, "vae", "--version", "2", *words)
    assert done.returncode == 1
    assert "error: fedsynth-vae version 2 must not be promoted, gates failed: 1 of 1:\n" in done.stdout
    assert "  classification/retained >= 0.5 by point: 0.333 of pooled is below 0.5\n" in done.stdout
    assert "change `gates` in params.yaml and run the pipeline" in done.stdout
    done = promoted(root, api, "vae", "--version", "3", *words)
    assert done.returncode == 1
    assert "error: fedsynth-vae version 3 has no verdict" in done.stdout
    assert champion(root) == "1"


def test_a_version_that_is_no_better_than_the_champion_needs_a_reason_that_is_kept(root, api):
    words = ("vae", "--version", "4", "--approve", "Ada", "--why", "asked to")
    done = promoted(root, api, *words)
    assert done.returncode == 1
    assert (
        "version 4 retains 0.6667 (classification 0.6667, segmentation 0.6667) of pooled, version 1, the champion,"
        " 0.7778" in done.stdout
    )
    assert "worse on the same references; to promote it nevertheless say why: --although TEXT" in done.stdout
    assert champion(root) == "1"
    done = promoted(root, api, *words, "--although", "its copies were found")
    assert done.returncode == 0, done.stdout
    assert champion(root) == "4"
    version = versions.version_of(root, "vae", 4)
    assert version.tags["promotion.although"] == "its copies were found"
    assert version.description.endswith("although: its copies were found)")


def test_a_verdict_that_changes_while_the_question_waits_counts(root, api):
    client = versions.client_of(root)
    process, run = waiting(root, api, "vae")
    before = versions.version_of(root, "vae", 5).tags
    try:
        client.set_model_version_tag("fedsynth-vae", "5", "gates", "failed: 1 of 1")
        promoted(root, api, "answer", run, "--by", "Ada", "--why", "looked fine in the morning")
        said, _ = process.communicate(timeout=60)
    finally:
        client.set_model_version_tag("fedsynth-vae", "5", "gates", before["gates"])
    assert process.returncode == 1
    assert "version 5 must not be promoted, gates failed: 1 of 1" in said
    assert champion(root) == "1"


def test_without_a_champion_there_is_nothing_to_be_better_than(root, monkeypatch):
    from flows.candidate import describe
    from flows.promote import allowed

    assert allowed(root, "vae", 5, "").endswith("better on the same references")
    versions.client_of(root).delete_registered_model_alias("fedsynth-vae", aliases.CHAMPION)
    assert allowed(root, "vae", 4, "") == ""
    assert "There is no champion yet" in describe(root, "vae", 4, None)


NOTHING_REQUIRED = {"gates": "none required, 0 of 1 warnings", "gate.01": "warn holds: epsilon <= 8: 4 is at most 8"}


@pytest.mark.parametrize("tags", [NOTHING_REQUIRED, {"gates": "none set"}])
def test_a_version_of_which_nothing_is_required_needs_a_reason(monkeypatch, tmp_path, tags):
    from flows.candidate import verdict
    from flows.promote import allowed

    monkeypatch.setattr(versions, "version_of", lambda *_: SimpleNamespace(name="fedsynth-vae", tags=tags))
    monkeypatch.setattr(versions, "alias_of", lambda *_: None)
    with pytest.raises(
        promotion.Refused,
        match=r"nothing has been proven; write a `gates\.require` into params\.yaml .* --although TEXT",
    ):
        allowed(tmp_path, "vae", 1, "")
    assert allowed(tmp_path, "vae", 1, "a demonstration, no gates are agreed on yet") == ""
    assert any("requires nothing of it, so nothing has been proven" in line for line in verdict(tags))
    assert not any(
        "requires nothing" in line for line in verdict(tags | {"gate.02": "require holds: fid <= 3: 2 is at most 3"})
    )


@pytest.fixture
def approvers(root):
    """Two people who may approve."""
    (root / "params.yaml").write_text("promote: {approvers: [Ada Lovelace, Grace Hopper]}\n")
    yield root
    (root / "params.yaml").write_text("study: fedsynth\n")


def test_who_is_not_among_the_approvers_is_refused_with_the_list(approvers, api):
    said = "may not decide which version is in use: promote.approvers of params.yaml names Ada Lovelace, Grace Hopper\n"
    done = promoted(approvers, api, "vae", "--approve", "nightly policy", "--why", "newest")
    assert (done.returncode, done.stdout) == (1, f"error: nightly policy {said}")
    process, run = waiting(approvers, api, "vae")
    answered = promoted(approvers, api, "answer", run, "--by", "Eve", "--why", "why not")
    assert (answered.returncode, answered.stdout) == (1, f"error: Eve {said}")
    elsewhere = promoted(approvers.parent, api, "answer", run, "--by", "Eve", "--why", "from a folder without params")
    assert elsewhere.returncode == 1
    assert "took no answer: " in elsewhere.stdout
    assert champion(approvers) == "1"
    promoted(approvers, api, "answer", run, "--by", " Grace  Hopper", "--why", "masks look right")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert champion(approvers) == "5"


def test_the_form_offers_the_approvers_and_any_name_where_there_are_none():
    from flows.promote import Decision, form

    asked = form(["Ada Lovelace", "Grace Hopper"]).model_json_schema()["properties"]["who"]
    assert asked["enum"] == ["Ada Lovelace", "Grace Hopper"]
    assert form([]) is Decision


def test_an_alias_that_was_changed_by_hand_is_said_and_may_be_answered_for(root, api):
    versions.client_of(root).set_registered_model_alias("fedsynth-vae", aliases.CHAMPION, "5")
    done = promoted(root, api, "vae", "--version", "5", "--approve", "Ada", "--why", "it was right")
    assert done.returncode == 0, done.stdout
    assert "version 5 is the champion, and version 1 was made that by a promotion: somebody has changed" in done.stdout
    assert "fedsynth-vae version 5 is the champion, in place of version 1" in done.stdout
    assert by_hand.lines(root) == []


def test_rollback_of_a_first_champion_withdraws_it(root, api):
    versions.client_of(root).set_model_version_tag("fedsynth-vae", "1", "promotion.replaced", "nothing")
    back = promoted(root, api, "rollback", "vae", "--by", "Ada", "--why", "its images are wrong")
    said = "fedsynth-vae has no champion any more: version 1 was the first, and is withdrawn\n"
    assert (back.returncode, back.stdout) == (0, said)
    assert champion(root) is None


def test_rollback_and_clearing_are_for_the_approvers_and_need_nobody_else(approvers, api):
    client = versions.client_of(approvers)
    by_hand.point(client, "fedsynth-vae", aliases.PREVIOUS, "1")
    by_hand.point(client, "fedsynth-vae", aliases.CHAMPION, "5")
    client.set_model_version_tag("fedsynth-vae", "4", "stale", "data withdrawn")
    said = "error: Eve may not decide which version is in use: promote.approvers of params.yaml names Ada Lovelace, "
    for words in (("rollback", "vae"), ("clear", "vae", "--version", "4")):
        refused = promoted(approvers, api, *words, "--by", "Eve", "--why", "I want to")
        assert refused.returncode == 1
        assert refused.stdout.startswith(said)
    assert champion(approvers) == "5"
    assert "stale" in versions.version_of(approvers, "vae", 4).tags
    for words in (("rollback", "vae"), ("clear", "vae", "--version", "4")):
        done = promoted(approvers, "http://127.0.0.1:9/api", *words, "--by", "Ada Lovelace", "--why", "copies found")
        assert done.returncode == 0, done.stdout
    assert champion(approvers) == "1"
    tags = versions.version_of(approvers, "vae", 5).tags
    assert (tags["rollback.by"], tags["rollback.why"]) == ("Ada Lovelace", "copies found")


@pytest.mark.parametrize("missing", ["--by", "--why"])
def test_who_rolls_back_says_who_and_why(root, api, missing):
    given = {"--by": "Ada", "--why": "copies found"}
    del given[missing]
    with pytest.raises(SystemExit):
        promoted(root, api, "rollback", "vae", *(word for pair in given.items() for word in pair))
    assert champion(root) == "1"


def test_resuming_without_a_choice_approves_nothing():
    from flows.promote import Decision

    schema = Decision.with_initial_data(description="facts").model_json_schema()
    assert "decision" in schema["required"]
    assert schema["properties"]["decision"]["enum"] == ["promote", "refuse"], "no switch, which stands at no"
    with pytest.raises(ValueError, match="decision"):
        Decision(who="Ada", why="looked")
    assert [Decision(who="Ada", why="looked", decision=of).approved for of in ("promote", "refuse")] == [True, False]


def test_the_question_is_short_and_says_what_an_answer_does(root):
    from flows.candidate import question

    text = question(root, "vae", 5, "1", "", "/artifacts/artifact/7")
    first, second = text.split("\n\n")[:2]
    assert first == "### Shall version 5 of fedsynth-vae be the one in use (champion), in place of version 1?"
    assert second == "[All that is known of it](/artifacts/artifact/7)"
    assert text.count("kid <= 1") == text.count("Gates: passed, with 1 warning") == 1
    assert "May be promoted" not in text
    assert "better on the same references. *Retains*: what networks reach" in text
    assert not [line for line in text.splitlines() if line.startswith("|")], "tables scroll out of the form's box"
    assert "where none is in use yet?" in question(root, "vae", 5, None, "", "")
    assert "Promoted although: we need it" in question(root, "vae", 5, "1", "we need it", "")


def test_the_facts_show_the_verdict_first_then_the_comparison_the_scores_and_the_tags(root, monkeypatch):
    from flows.candidate import describe

    text = describe(root, "vae", 5, "1")
    assert "**Gates: passed, with 1 warning.**\n\n- warning: kid <= 1: missing: not computed" in text
    lines = text.splitlines()
    said = [line for line in lines if "kid <= 1" in line and "flow run: " not in line]  # without the history
    assert len(said) == 1, "said once"
    assert "May be promoted" not in text, "its gates have said that"
    assert not any(
        line.startswith(("| gate.", "| gates |", "| worth.", "| measure.", "| promotion.")) for line in lines
    )
    assert (
        "Version 5 retains 0.8889 (classification 0.8889, segmentation 0.8889) of pooled, version 1, the champion,"
        " 0.7778" in text
    )
    assert "| score | version 5 | champion (version 1) |" in text
    assert "| classification/retained | 0.889 | 0.778 |" in text
    assert "| measure/fid/floor | 1.000 | 1.000 |" in text
    assert "measure/fid/north" not in text, "single sites are in the run and the report"
    assert "| flare.job_id | job-5 |" in text
    monkeypatch.setattr(versions, "scores_of", lambda root, version: {})
    assert "No scores: this version has not been scored." in describe(root, "vae", 5, None)
