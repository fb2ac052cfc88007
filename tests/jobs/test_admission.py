"""A job meets the hospital's policy before an image is read: what is sent and what is recorded, without FLARE."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nvflare.client import FLModel

from fedsynth.data import manifest as table
from fedsynth.data.dataset import ImageSet
from fedsynth.hospital.policy import Policy, simulated
from fedsynth.hospital.policy.words import text
from fedsynth.hospital.record import Record
from nvflare_jobs.centre.program import public
from nvflare_jobs.reference import client as reference
from nvflare_jobs.site import site as module
from nvflare_jobs.train import client as train
from nvflare_jobs.train import job as training
from nvflare_jobs.validate import client as validate
from tests.sets import make_set, passed, tiny_params

PARAMS = tiny_params(consortium={"min_cell": 1})


class Flare:
    """FLARE's client API with a job's tasks in a list; `sent` holds what the site has sent."""

    def __init__(self, tasks: list[FLModel]):
        self.tasks, self.sent = list(tasks), []

    def init(self) -> None: ...

    def get_site_name(self) -> str:
        return "north"

    def is_running(self) -> bool:
        return bool(self.tasks)

    def receive(self) -> FLModel | None:
        return self.tasks.pop(0) if self.tasks else None

    def send(self, model: FLModel) -> None:
        self.sent.append(model)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FEDSYNTH_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("FEDSYNTH_POLICY", raising=False)
    make_set(tmp_path / "data" / "north", PARAMS, n=60)
    simulated.write(tmp_path / "state", ["north"])
    return tmp_path


def run(monkeypatch, work: Any, job: str, tasks: list[FLModel]) -> list[FLModel]:
    flare = Flare(tasks)
    monkeypatch.setattr(module, "flare", flare)
    monkeypatch.setattr(module, "of_job", lambda: ("job-1", "lead@centre.org"))
    module.main(work, job)
    return flare.sent


def digests(place) -> dict[str, str]:
    return {"north": passed(place / "state" / "north", ImageSet.load(place / "data" / "north"))}


def rounds(place, n: int = 1, **changes: Any) -> list[FLModel]:
    config = training.question(PARAMS, "vae", digests(place))
    config["model"]["training"] |= changes
    arrays = training.begin(PARAMS, "vae")
    return [FLModel(params=arrays, current_round=i, meta={"job": config}) for i in range(n)]


def told(place) -> list[tuple[str, str]]:
    return [(entry["what"], entry.get("rule", "")) for entry in Record(place / "state" / "north").read()]


def test_a_round_is_asked_and_sent_and_both_are_recorded(place, monkeypatch):
    (sent,) = run(monkeypatch, train.work, "train", rounds(place))
    assert sent.params_type == "DIFF"
    assert told(place) == [("asked", ""), ("sent", "")]
    asked, left = Record(place / "state" / "north").read()
    assert (asked["id"], asked["submitter"], asked["name"]) == ("job-1", "lead@centre.org", "vae")
    assert left["bytes"] == sum(a.nbytes for a in sent.params.values())
    assert left["values"] == sum(a.size for a in sent.params.values())
    assert left["round"] == 0


def test_a_job_that_is_refused_reads_no_image_and_sends_one_word(place, monkeypatch, capsys):
    asked = rounds(place, batch=1)
    (place / "data" / "north" / table.ARRAY).unlink()
    sent = run(monkeypatch, train.work, "train", [*asked, *asked])
    assert [model.meta for model in sent] == [{"failed": "policy"}]
    assert "floors.batch" in capsys.readouterr().out
    assert told(place) == [("refused", "floors.batch"), ("sent", "")]


def test_a_pause_between_two_rounds_ends_the_second(place, monkeypatch):
    def work(site: Any) -> None:
        for received in site.tasks():
            site.answer("look", {"digest": ""})
            (place / "state" / "north" / "policy.paused").write_text("look into it")
            assert received.current_round == 0

    config = {"params": public(PARAMS), "look": True, "name": ""}
    tasks = [FLModel(params={"none": np.zeros(1)}, current_round=i, meta={"job": config}) for i in range(3)]
    sent = run(monkeypatch, work, "validate", tasks)
    assert [model.meta.get("failed") for model in sent] == [None, "paused"]


def test_a_site_without_a_policy_refuses_even_to_say_its_digest(place, monkeypatch):
    (place / "state" / "north" / "policy.yaml").unlink()
    config = {"params": public(PARAMS), "look": True, "name": ""}
    task = FLModel(params={"none": np.zeros(1)}, meta={"job": config})
    sent = run(monkeypatch, validate.work, "validate", [task, task])
    assert [model.meta for model in sent] == [{"failed": "policy"}]


@pytest.mark.parametrize("config", [{}, {"params": []}, {"params": {"seed": 1}}, {"params": None, "name": "x"}])
def test_a_job_that_does_not_say_what_it_computes_is_refused(place, monkeypatch, config):
    task = FLModel(params={"none": np.zeros(1)}, meta={"job": config})
    sent = run(monkeypatch, train.work, "train", [task, task])
    assert len(sent) == 1
    assert sent[0].meta["failed"] in ("policy", "version", "error")


def test_a_question_that_was_answered_is_answered_again_without_an_image(place, monkeypatch):
    params = tiny_params(score={"uses": {"classification": {
        "class_path": "fedsynth.uses.classification.Classification", "args": {"steps": 2, "features": 16},
    }}})  # fmt: skip
    config = {"params": public(params), "name": "", "digests": digests(place)}
    tasks = [FLModel(params={"none": np.zeros(1)}, current_round=0, meta={"job": config})]
    (first,) = run(monkeypatch, reference.work, "reference", tasks)
    (place / "data" / "north" / table.ARRAY).unlink()
    (second,) = run(monkeypatch, reference.work, "reference", tasks)
    assert first.meta == second.meta
    assert first.meta["answer"]["rows"]
    assert [what for what, _ in told(place)] == ["asked", "sent", "repeated", "sent"]


def test_other_arrays_are_another_question(place, monkeypatch):
    seen = []

    def work(site: Any) -> None:
        for _ in site.tasks():
            seen.append(site.gate.question)
            site.answer("look", {"digest": ""})

    config = {"params": public(PARAMS), "name": ""}
    for level in (0.0, 1.0, 1.0):
        task = FLModel(params={"net/a": np.full(3, level)}, current_round=0, meta={"job": config})
        run(monkeypatch, work, "reference", [task])
    assert seen[0] != seen[1]
    assert len(seen) == 2, "the third is the second again"


def test_a_policy_of_the_environment_is_the_one_that_counts(place, monkeypatch):
    (place / "own.yaml").write_text(text(Policy(jobs=["look"]), "of a test"))
    monkeypatch.setenv("FEDSYNTH_POLICY", str(place / "own.yaml"))
    sent = run(monkeypatch, train.work, "train", rounds(place, 2))
    assert [model.meta for model in sent] == [{"failed": "policy"}]
