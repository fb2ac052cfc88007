"""Encrypted updates through FLARE: the server adds what it cannot read, and ends with the model of a plain training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nvflare.client import FLModel

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.hospital.outgoing import LeakError
from fedsynth.params import Model
from fedsynth.privacy import he
from fedsynth.settings import Settings
from fedsynth.training import weights
from nvflare_jobs import keys
from nvflare_jobs.server import aggregator, run
from nvflare_jobs.site import site
from nvflare_jobs.train import job
from tests.jobs.gates import gate
from tests.sets import tiny_params, validated

pytest.importorskip("tenseal", reason="encryption needs the extra `he`: pip install -e '.[he]'")

CKKS = {"class_path": "fedsynth.privacy.he.CKKS"}


def trained(folder: Path, encryption, mode="simulator") -> Path:
    params = tiny_params()
    params.models["vae"] = Model.model_validate(
        params.models["vae"].model_dump()
        | {"encryption": encryption, "training": {"rounds": 2, "batch": 8, "epochs": 1}}
    )
    job.stage(params, validated(folder, params, {"east": 30, "north": 60}, mode), "vae")
    return folder / "models" / "vae"


@pytest.fixture
def simulated(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_STATE", str(tmp_path))
    keys.simulate(tmp_path)


def a_site(monkeypatch, meta=None):
    """A site in the middle of a job, and what it sends."""
    sent: list = []
    monkeypatch.setattr(site.flare, "send", sent.append)
    made = object.__new__(site.Site)
    made.gate, made._received = gate(), None
    made.settings, made.params = Settings.read(), tiny_params()
    made._received = FLModel(params={}, meta={"job": {"model": {"encryption": CKKS}}} | (meta or {}))
    return made, sent


def update(monkeypatch, difference, weight, equal=False):
    made, sent = a_site(monkeypatch)
    facts = {"losses": {}, "steps": 3, "weight": weight, "epsilon": None}
    made.update(difference, difference, facts, ["unet"], he.CKKS(), equal)
    return sent[0]


def aggregate(models, algorithm, tmp_path, monkeypatch, quorum=2):
    made = aggregator.Aggregate(json.dumps(algorithm), list(models), quorum, json.dumps(CKKS))
    made.begin(0, {"w": np.zeros((2, 3), np.float32)}, list(models), {}, False)
    made.fl_ctx = None
    for module in (aggregator, run):
        monkeypatch.setattr(module, "run_dir", lambda _: tmp_path)
    for name, model in models.items():
        model.meta["client_name"] = name
        made.accept_model(model)
    return made


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("weighting", ["images", "equal"])
def test_a_round_of_encrypted_updates_is_the_mean_that_plain_ones_have(tmp_path, monkeypatch, weighting):
    plain = {"east": (10.0, np.full((2, 3), 1.0, np.float32)), "north": (30.0, np.full((2, 3), 2.0, np.float32))}
    models = {name: update(monkeypatch, {"w": w}, n, weighting == "equal") for name, (n, w) in plain.items()}
    assert all(
        model.params.keys() == {"encrypted"} and model.meta["weight"] == plain[name][0]
        for name, model in models.items()
    )
    fedavg = {"class_path": "fedsynth.algorithms.fedavg.FedAvg", "args": {"weighting": weighting}}
    made = aggregate(models, fedavg, tmp_path, monkeypatch)
    sites, total = made.total()
    opening, sent = a_site(monkeypatch)
    opening.open(FLModel(params={"encrypted": np.frombuffer(total, np.uint8)}, meta={"open": sites}))
    made.opened(sites, sent[0].params["encrypted"])
    expected = FedAvg(weighting=weighting).aggregate([(name, n, {"w": w}) for name, (n, w) in plain.items()])["w"]
    # twelve deviations of the flood
    np.testing.assert_allclose(made.aggregate_model().params["w"], expected, atol=6e-5)
    assert [sorted(record["sites"]) for record in made.records] == [["east", "north"]]


@pytest.mark.usefixtures("simulated")
def test_what_one_site_has_sent_is_never_opened(tmp_path, monkeypatch):
    sent = update(monkeypatch, {"w": np.ones((2, 3), np.float32)}, 10.0)
    made, _ = a_site(monkeypatch)
    for sites in (["east"], ["east", "east"], []):
        with pytest.raises(LeakError, match="stays closed"):
            made.open(FLModel(params=sent.params, meta={"open": sites}))
    alone = aggregate(
        {"east": sent, "north": FLModel(params=site.NOTHING, meta={"failed": "disk"})},
        {"class_path": "fedsynth.algorithms.fedavg.FedAvg"},
        tmp_path,
        monkeypatch,
        quorum=1,
    )
    with pytest.raises(
        RuntimeError,
        match=r"1 of 2 sites have an encrypted update, 2 are needed for a sum: site north: failed: its disk",
    ):
        alone.total()


@pytest.mark.usefixtures("simulated")
def test_the_door_looks_at_the_plain_difference_before_it_is_encrypted(monkeypatch):
    with pytest.raises(LeakError, match="NaN"):
        update(monkeypatch, {"w": np.full((2, 3), np.nan, np.float32)}, 10.0)


def test_without_a_key_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_STATE", str(tmp_path))
    with pytest.raises(he.EncryptionError, match=r"no client_context\.tenseal .* HEBuilder"):
        keys.read(keys.SECRET)


@pytest.mark.flare
def test_an_encrypted_training_ends_with_the_model_of_a_plain_one(tmp_path):
    """Over a provisioned federation, whose kits have the keys: what the server holds opens nothing."""
    plain, secret = trained(tmp_path / "plain", None), trained(tmp_path / "secret", CKKS, "poc")
    expected, found = (weights.load(folder / "weights.safetensors") for folder in (plain, secret))
    begun = job.begin(tiny_params(), "vae")
    learnt, off = ([np.square(of[name] - expected[name]).sum() for name in expected] for of in (begun, found))
    assert 0 < sum(off) < 0.02**2 * sum(learnt)  # by the noise on an opened sum, which Adam's first steps make larger
    history = json.loads((secret / "history.json").read_text())
    assert [sorted(record["sites"]) for record in history["rounds"]] == [["east", "north"]] * 2
    (key,) = tmp_path.rglob("localhost/startup/*.tenseal")
    assert key.name == keys.PUBLIC
    assert not he.key(key.read_bytes()).has_secret_key()
