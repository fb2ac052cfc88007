"""What was spent at the sites on its way to model.json."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedsynth.data import outputs
from fedsynth.errors import UserError
from fedsynth.hospital.ledger import Ledger
from fedsynth.hospital.outgoing import LeakError
from fedsynth.params import Model
from fedsynth.settings import Settings
from nvflare_jobs.centre import show
from nvflare_jobs.site import site
from nvflare_jobs.train import job
from tests.jobs.gates import gate
from tests.sets import tiny_params, validated

SMALL = {"class_path": "fedsynth.families.vae.VAE", "args": {"channels": [8, 16], "latent": 4}}
DPSGD = {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8}}


def model(privacy):
    return Model.model_validate(tiny_params().models["vae"].model_dump() | {"privacy": privacy})


def rounds(*spent):
    return [
        {
            "round": i,
            "sites": {s: {} if e is None else {"epsilon": e, "epsilon_total": 2 * e} for s, e in sites.items()},
        }
        for i, sites in enumerate(spent)
    ]


def test_a_model_has_the_epsilon_of_the_site_that_spent_most():
    # east was left out of the last round
    found = job.epsilon(model(DPSGD), rounds({"north": 2.0, "east": 3.0}, {"north": 2.5}))
    assert found == {"epsilon": 3.0, "total": 6.0, "delta": 1e-5, "unit": "subject", "relation": "add_remove"}


UPDATE = {"class_path": "fedsynth.privacy.update.UpdateDP", "args": {"epsilon": 8, "clip": 0.1}}


@pytest.mark.parametrize(
    ("mechanism", "unit", "relation"),
    [(DPSGD, "subject", "add_remove"), (DPSGD | {"args": {"epsilon": 8, "unit": "image"}}, "image", "add_remove"),
     (UPDATE, "site", "replace")],
)  # fmt: skip
def test_a_model_says_what_its_epsilon_compares(mechanism, unit, relation):
    found = job.epsilon(model(mechanism), rounds({"north": 2.0}))
    assert found == {"epsilon": 2.0, "total": 4.0, "delta": 1e-5, "unit": unit, "relation": relation}


def test_a_site_that_does_not_say_what_it_spent_makes_the_models_epsilon_unknown():
    found = job.epsilon(model(DPSGD), rounds({"north": 2.0, "east": None}))
    assert (found["epsilon"], found["total"]) == (None, None)
    only_own = [{"round": 0, "sites": {"north": {"epsilon": 2.0}}}]  # of a site without a ledger
    assert job.epsilon(model(DPSGD), only_own)["total"] is None


def test_without_a_mechanism_there_is_no_epsilon():
    assert job.epsilon(model(None), rounds({"north": None})) is None


def test_a_budget_that_makes_no_sense_stops_at_the_centre():
    params = tiny_params()
    params.models["vae"] = model(DPSGD | {"args": {"epsilon": 0}})
    with pytest.raises(UserError, match="epsilon"):
        job.begin(params, "vae")


def a_site():
    made = object.__new__(site.Site)
    made.gate, made._received = gate(), None
    made.settings, made.params = Settings.read(), tiny_params()
    return made


@pytest.mark.parametrize(("spent", "arrives"), [(1.5, {"epsilon": 1.5, "epsilon_total": 3.0}), (None, {})])
def test_a_site_sends_what_it_has_spent_with_the_round(monkeypatch, spent, arrives):
    sent = []
    monkeypatch.setattr(site.flare, "send", sent.append)
    facts = {"losses": {}, "steps": 3, "weight": 10.0, "epsilon": spent, "epsilon_total": spent and 2 * spent}
    a_site().update({"w": np.zeros(2, np.float32)}, {"w": np.zeros(2, np.float32)}, facts, ["unet"])
    assert sent[0].metrics == {"steps": 3.0, "weight": 10.0} | arrives


@pytest.mark.parametrize("name", ["epsilon", "epsilon_total"])
def test_an_epsilon_that_is_no_number_does_not_leave(monkeypatch, name):
    monkeypatch.setattr(site.flare, "send", lambda _: pytest.fail("something left"))
    facts = {"losses": {}, "steps": 3, "weight": 10.0, name: float("inf")}
    with pytest.raises(LeakError, match=name):
        a_site().update({}, {}, facts, ["unet"])


def test_the_line_of_a_round_says_the_greatest_epsilon():
    assert show.losses({"a": {"epsilon": 1.0, "weight": 3.0}, "b": {"epsilon": 2.345, "weight": 1.0}}) == "epsilon 2.35"
    both = {"epsilon": 1.0, "epsilon_total": 9.0, "weight": 3.0}
    assert show.losses({"a": both}) == "epsilon 1.00  of all trainings 9.00"
    assert show.losses({"a": {"loss/g": 1.0, "weight": 3.0}}) == "g 1.000"


@pytest.mark.flare
def test_a_private_training_ends_with_the_epsilon_that_was_asked_for(tmp_path):
    """Through FLARE: the mechanism at the sites, epsilon in each round, no loss in any, and model.json as gates read
    it.
    """
    params = tiny_params()
    params.models["vae"] = Model.model_validate(
        params.models["vae"].model_dump()
        | {"family": SMALL, "privacy": DPSGD, "training": {"rounds": 2, "batch": 8, "epochs": 1}}
    )
    settings = validated(tmp_path, params, {"east": 60, "north": 60})
    job.stage(params, settings, "vae")
    about, history = (
        json.loads((tmp_path / "models" / "vae" / name).read_text()) for name in ("model.json", "history.json")
    )
    about = about["epsilon"]
    assert about["epsilon"] == pytest.approx(8, abs=0.1)
    assert about["total"] == about["epsilon"] <= 8  # nothing else was trained here
    assert (about["delta"], about["unit"], about["relation"]) == (1e-5, "subject", "add_remove")
    for record in history["rounds"]:
        assert {name for numbers in record["sites"].values() for name in numbers} == {
            "steps",
            "weight",
            "epsilon",
            "epsilon_total",
        }
    sites = outputs.read(tmp_path / "reports" / "validation.json", "validate")["sites"]
    assert sorted(sites) == ["east", "north"]
    for name in sites:
        entries = Ledger(settings.state / name).entries
        assert [(e.round, e.digest) for e in entries] == [(i, sites[name]["digest"]) for i in range(2)]
