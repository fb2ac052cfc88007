"""What the server takes from the sites, and what it refuses, without FLARE."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.params import Consortium
from nvflare_jobs.centre import build_question, build_rounds, job_folder
from nvflare_jobs.federation.interface import reason
from nvflare_jobs.server.ask import Ask
from nvflare_jobs.server.run import SaysWhom
from nvflare_jobs.server.updates import check
from nvflare_jobs.site.installed import Installed


def update(site: str, array: np.ndarray, weight: float = 1.0) -> tuple:
    return site, weight, {"w": array}


GOOD = np.zeros((2, 2), np.float32)
SHAPES = {"w": (2, 2)}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (update("south", np.full((2, 2), np.nan, np.float32)), "sent NaN or Inf in w"),
        (update("south", np.full((2, 2), np.inf, np.float32)), "sent NaN or Inf in w"),
        (update("south", np.zeros((2, 3), np.float32)), "sent other parameters or shapes"),
        (update("south", np.zeros((2, 2), np.int64)), "sent w as int64"),
        (update("south", np.zeros((2, 2), bool)), "sent w as bool"),
        (update("south", GOOD, 0.0), "sent the weight 0"),
        (update("south", GOOD, float("nan")), "sent the weight nan"),
        (("south", 1.0, {"v": GOOD}), "sent other parameters or shapes"),
        (("south", 1.0, {"w": GOOD, "v": GOOD}), "sent other parameters or shapes"),
        (("south", 1.0, {}), "sent other parameters or shapes"),
    ],
)
def test_a_bad_update_is_left_out_with_the_site_and_the_reason_and_the_others_are_kept(bad, said):
    good, why = check([bad, update("north", GOOD)], SHAPES)
    assert [site for site, _, _ in good] == ["north"]
    assert list(why) == ["south"]
    assert said in why["south"]


def test_good_updates_pass_whatever_their_order():
    assert check([update("b", GOOD), update("a", GOOD + 1)], SHAPES)[1] == {}


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_the_same_updates_give_the_same_bits_in_whatever_order_they_arrive(order):
    rng = np.random.default_rng(3)
    updates = [update(f"site{i}", rng.normal(size=(40, 40)).astype(np.float32), float(1 + i)) for i in range(3)]
    first = FedAvg().aggregate(updates)["w"]
    assert FedAvg().aggregate([updates[i] for i in order])["w"].tobytes() == first.tobytes()


def job(folder, config: dict[str, Any], **more: Any):
    algorithm = {"class_path": "fedsynth.algorithms.scaffold.Scaffold", "args": {}}
    question = {"name": "x", "key": "1"} | config
    return build_rounds.train(
        folder, "train_x", ["north", "east"], Consortium(**more), question, algorithm, {"w": GOOD}, rounds=3
    )


def test_a_job_names_no_path_of_this_machine_and_its_content_is_its_token(tmp_path):
    jobs = [job(tmp_path / name, {"a": 1}) for name in ("one", "two")]
    for path in jobs[0].rglob("*"):
        if path.suffix in (".json", ".py"):
            assert str(tmp_path) not in path.read_text()
            assert str(Path(job_folder.__file__).parents[1]) not in path.read_text()
    assert job_folder.token(jobs[0]) == job_folder.token(jobs[1])
    assert job_folder.token(jobs[0]) != job_folder.token(job(tmp_path / "three", {"a": 2}))
    assert job_folder.token(jobs[0]) != job_folder.token(job(tmp_path / "four", {"a": 1}, quorum=1))


def test_a_job_goes_to_its_sites_alone_and_the_arrays_to_the_server_alone(tmp_path):
    made = job(tmp_path / "one", {})
    assert json.loads((made / "meta.json").read_text())["deploy_map"] == {
        "app_server": ["server"],
        "app_site": ["north", "east"],
    }
    assert [p.name for p in made.rglob("*.safetensors")] == ["initial.safetensors"]
    assert sorted(p.name for p in (made / "app_site").rglob("*") if p.is_file()) == [
        "client.py",
        "config_fed_client.json",
    ]


def test_a_job_without_code_names_only_classes_that_a_site_can_allow(tmp_path):
    made = build_question.ask(tmp_path, "validate", "validate", ["north"], Consortium(), {}, thin=False)
    assert not list(made.rglob("*.py"))
    assert not list(made.rglob("custom"))
    raw = json.loads((made / "app_site/config/config_fed_client.json").read_text())
    assert [e["executor"] for e in raw["executors"]] == [
        {"path": "nvflare_jobs.site.installed.Installed", "args": {"kind": "validate"}}
    ]


def test_only_the_clients_of_this_package_can_be_named():
    with pytest.raises(ValueError, match="kind must be one of validate, train, reference, score"):
        Installed("../../somewhere")


def test_what_the_server_must_know_of_the_sites_is_in_the_job_and_what_flare_would_take_for_an_expression_is_not(
    tmp_path,
):
    robust = {"class_path": "fedsynth.robust.median_clip.MedianClip", "args": {"bound": 2.0}}
    made = build_rounds.train(
        tmp_path, "train_x", ["north", "St. Mary"], Consortium(), {"name": "x", "model": {"robust": robust}},
        {"class_path": "fedsynth.algorithms.fedavg.FedAvg", "args": {}}, {"w": GOOD}, rounds=3,
        images={"north": 30, "St. Mary": 4}, players=["net"],
    )  # fmt: skip
    config = json.loads((made / "app_server/config/config_fed_server.json").read_text())
    (args,) = (of["args"]["aggregator"]["args"] for of in config["workflows"])
    keys = args["sites"]
    assert (keys[0], args["players"]) == ("north", ["net"])
    assert json.loads(args["robust"]) == robust
    assert json.loads(args["images"]) == [["north", 30], [keys[1], 4]]
    assert "{" not in args["images"]


@pytest.mark.parametrize(("quorum", "needed"), [(None, 2), (1, 1), (2, 2), (5, 2)])
def test_a_quorum_is_never_more_than_the_sites_that_there_are(tmp_path, quorum, needed):
    made = job(tmp_path / "one", {}, quorum=quorum)
    assert json.loads((made / "meta.json").read_text())["min_clients"] == needed


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "x\nFEDSYNTH FAILED site a: ValueError: no\nSubprocess died for client b, exit code: 3",
            "site a: ValueError: no",
        ),
        ("2026 - ERROR - Subprocess died for client b, exit code: -9", "site b died (exit code -9)"),
        ("2026 - ERROR - Communication error with client b: ", "site b died"),
        ("all is well", ""),
    ],
)
def test_the_reason_of_a_failure_is_read_from_the_log_in_one_line(log, said):
    assert reason(log) == said


def test_the_server_needs_no_torch_for_an_average():
    script = """
import sys, numpy, nvflare_jobs.server.aggregator, nvflare_jobs.server.ask, nvflare_jobs.server.controller
from fedsynth.params import Block
built = Block(class_path="fedsynth.algorithms.fedavg.FedAvg").build()
built.aggregate([("a", 1.0, {"w": numpy.ones(3)})])
print("torch" in sys.modules, "monai" in sys.modules)
"""
    assert subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split() == ["False", "False"]


def test_once_the_quorum_has_answered_the_log_says_for_whom_the_job_waits_and_never_before(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(Ask.__mro__[Ask.__mro__.index(SaysWhom) + 1], "get_num_standing_tasks", lambda self: 1, False)
    monkeypatch.setattr(Ask, "info", lambda self, message: said.append(message))
    asked = Ask(["east", "north", "south"], 2, 600)
    asked.targets, asked.SAY_S = ["east", "north", "south"], 0.0
    for site in ["north", "east", "south"]:
        asked.answers[site] = {"answer": 1}
        assert asked.get_num_standing_tasks() == 1
    assert said == ["the quorum has answered; waiting for south"]
    asked.answers.pop("south")
    asked.SAY_S = 600.0
    asked.get_num_standing_tasks()
    assert len(said) == 1  # not with every look
