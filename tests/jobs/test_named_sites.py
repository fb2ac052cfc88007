"""Sites of any name in a job: FLARE gets their keys, and what it says of them comes back with the names."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from fedsynth.params import Consortium, names
from fedsynth.settings import Settings
from nvflare_jobs.centre import build_question, jobs
from nvflare_jobs.federation.interface import Event, JobLost
from nvflare_jobs.server import round_log
from nvflare_jobs.server.ask import ANSWERS
from nvflare_jobs.site.site import Site

SITES = ["St. Mary's Hospital", "server", "north"]
KEYS = [names.key(site) for site in SITES]


def question(folder):
    return build_question.ask(folder / "job", "validate", "validate", SITES, Consortium(), {"params": {}, "look": True})


@pytest.fixture
def settings(tmp_path):
    return Settings("simulator", tmp_path, tmp_path / "data", tmp_path / "state", 60, False)


def ran(monkeypatch, answer=None, error=None):
    """A federation that gives each site's key this answer, or fails."""

    def run(federation, job, token, sites, dest, on_event):
        assert sites == KEYS
        on_event(Event("round", round=0, sites={KEYS[0]: {"loss/x": 1.0}}, left_out={KEYS[1]: "not connected"},
                       bounded={KEYS[0]: "norm 12 times the median"}))  # fmt: skip
        if error:
            raise error
        dest.mkdir(parents=True)
        (dest / ANSWERS).write_text(json.dumps({key: {"answer": answer(key)} for key in KEYS}))
        round_log.append(dest / round_log.ROUNDS, {"round": 0, "sites": {key: {"loss/x": 1.0} for key in KEYS}})

    monkeypatch.setattr(jobs.runner, "connect", lambda *of: nullcontext())
    monkeypatch.setattr(jobs.runner, "run", run)


def test_flare_is_given_the_keys(tmp_path):
    job = question(tmp_path)
    assert json.loads((job / "meta.json").read_text())["deploy_map"] == {"app_server": ["server"], "app_site": KEYS}
    server = (job / "app_server" / "config" / "config_fed_server.json").read_text()
    assert json.dumps(KEYS[0]) in server
    assert "St. Mary" not in server


def test_answers_rounds_and_lines_at_the_terminal_have_the_names(tmp_path, settings, monkeypatch, capsys):
    ran(monkeypatch, answer=lambda key: {"rows": [{"site": key, "trained_on": key}]})
    found = jobs.ask("validate", question(tmp_path), SITES, settings)
    assert list(found) == SITES
    assert found[SITES[0]]["answer"]["rows"] == [{"site": SITES[0], "trained_on": SITES[0]}]
    (record,) = round_log.read(settings.root / ".work/jobs/validate/result" / round_log.ROUNDS)
    assert list(record["sites"]) == SITES
    out = capsys.readouterr().out
    assert "round 1 without server: not connected" in out
    assert f"round 1, update of {SITES[0]}: norm 12 times the median" in out


def test_the_reason_of_a_failure_has_the_name(tmp_path, settings, monkeypatch):
    ran(monkeypatch, error=JobLost(f"site {KEYS[0]} died (/state/{KEYS[0]}/log.txt)"))
    with pytest.raises(JobLost, match=rf"^site St\. Mary's Hospital died \(/state/{KEYS[0]}/log\.txt\)$"):
        jobs.ask("validate", question(tmp_path), SITES, settings)


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "..", "a/b"])
def test_no_name_that_flare_might_give_a_site_leads_out_of_its_folders(tmp_path, monkeypatch, name):
    monkeypatch.setenv("FEDSYNTH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FEDSYNTH_STATE", str(tmp_path / "state"))
    site = Site.__new__(Site)
    site.name = name
    assert site.data.parent == tmp_path / "data"
    assert site.state.parent == tmp_path / "state"
