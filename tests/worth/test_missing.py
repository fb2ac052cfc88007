"""A model without results in a run has a reason and gates that do not hold, whatever an earlier version has left."""

from __future__ import annotations

from fedsynth.worth import missing
from fedsynth.worth.judgement import card, gate_table, passed
from tests.sets import tiny_params

GATES = {"require": ["fid <= 3 * floor", "copies_pixel@worst_site <= 0"], "warn": ["epsilon <= 8", "kid <= 1"]}
FAILED = {"stage": "train@vae", "why": "its training diverged"}


def test_no_gate_of_it_holds_and_each_says_why():
    found = missing.facts(tiny_params(gates=GATES), "vae", FAILED)
    assert not passed(found)
    cells = {row["gate"]: row["cells"]["vae"] for row in gate_table({"vae": found})}
    assert list(cells) == [*GATES["require"], "kid <= 1"], "nobody asked for an epsilon"
    assert {(cell["state"], cell["reason"]) for cell in cells.values()} == {("missing", "missing: train@vae failed")}
    assert card("vae", found)["said"] == "must not be promoted: train@vae failed: its training diverged"


def test_without_gates_it_must_not_be_promoted_either():
    found = missing.facts(tiny_params(gates={}), "vae", FAILED)
    assert not passed(found)
    assert not card("vae", found)["passed"]


def test_what_the_flow_has_written_comes_before_files_that_are_there(tmp_path):
    for path in missing.NEEDED:
        (tmp_path / path.format("vae")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path.format("vae")).touch()
    assert missing.missing(tmp_path, {"vae": None}) == {}
    missing.write(tmp_path, {"vae": FAILED, "gone": FAILED})
    assert missing.missing(tmp_path, {"vae": None}) == {"vae": FAILED}


def test_a_model_whose_files_are_not_there_names_the_stage_to_run(tmp_path):
    (tmp_path / "models/vae").mkdir(parents=True)
    for name in ("model.json", "history.json"):
        (tmp_path / "models/vae" / name).touch()
    assert missing.missing(tmp_path, {"vae": None}) == {
        "vae": {
            "stage": "sample@vae",
            "why": "data/synthetic/vae/manifest.csv is not there; run `dvc repro sample@vae`",
        }
    }
