"""Hospitals say what may be asked of them, over a provisioned federation: who asks, and whether at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fedsynth.hospital.policy import Policy
from fedsynth.hospital.policy.words import text
from fedsynth.hospital.record import Record
from fedsynth.params import Consortium
from nvflare_jobs.centre import build_question
from nvflare_jobs.centre.program import public
from nvflare_jobs.federation import local_system
from nvflare_jobs.server.ask import ANSWERS
from tests.sets import tiny_params

pytestmark = pytest.mark.flare


def ask(trial: Any, name: str, quorum: int) -> dict[str, Any]:
    config = {"params": public(tiny_params()), "look": True}
    job = build_question.ask(
        trial.root / name, "validate", name, trial.sites, Consortium(grace_s=60), config, quorum=quorum
    )
    found: dict[str, Any] = json.loads((trial.run(job, work=name) / ANSWERS).read_text())
    return found


def policy(trial: Any, site: str) -> Any:
    return trial.state(site) / site / "policy.yaml"


def told(trial: Any, site: str) -> list[tuple[str, str, str]]:
    return [(e["what"], e.get("rule", ""), e["submitter"]) for e in Record(trial.state(site) / site).read()]


def test_a_hospital_decides_who_may_ask_it_and_when(trial):
    policy(trial, "east").write_text(text(Policy(submitters=[local_system.ADMIN]), "only the centre"))
    policy(trial, "north").write_text(text(Policy(submitters=["someone@else.org"]), "somebody else"))
    policy(trial, "west").unlink()
    trial.all_connected()
    found = ask(trial, "first", quorum=1)
    assert found["east"]["answer"]["digest"] == ""
    for site in ("north", "west"):
        assert "its policy does not allow this job" in found[site]["failed"]
    assert told(trial, "east")[:2] == [("asked", "", local_system.ADMIN), ("sent", "", local_system.ADMIN)]
    assert told(trial, "north")[0] == ("refused", "submitters", local_system.ADMIN)
    assert told(trial, "west")[0] == ("refused", "the file", local_system.ADMIN)
    policy(trial, "west").write_text(text(Policy(), "any"))
    policy(trial, "east").with_suffix(".paused").write_text("we look into it")
    found = ask(trial, "second", quorum=1)
    assert "the hospital has paused all jobs" in found["east"]["failed"]
    assert found["west"]["answer"]["digest"] == ""
