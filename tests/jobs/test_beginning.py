"""A training that begins with weights from elsewhere, and trains a part of them: at the centre, on the wire."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedsynth.hospital.ledger import Ledger
from fedsynth.hospital.policy import PolicyError
from fedsynth.hospital.policy.drift import Drift
from fedsynth.hospital.policy.model import Floors, Policy
from fedsynth.hospital.policy.simulated import usual
from fedsynth.params import Params
from fedsynth.training import weights
from fedsynth.training.start import StartError, digest
from nvflare_jobs.server import aggregator as aggregating
from nvflare_jobs.server import run
from nvflare_jobs.server.aggregator import Aggregate
from nvflare_jobs.train import client
from nvflare_jobs.train import job as training
from nvflare_jobs.train.beginning import beginning
from tests.jobs.gates import gate
from tests.sets import make_set, tiny_params, validated

DECODER = "autoencoder.decoder.*"
BLOCK = tiny_params().models["vae"].model_dump(mode="json")


def study(rounds: int = 1, **keys: Any) -> Params:
    return tiny_params(models={"vae": BLOCK | {"training": {"rounds": rounds, "batch": 8}} | keys})


def file_of(folder, level: float = 0.02) -> dict[str, Any]:
    """`start` of a file with the same small number everywhere."""
    arrays = {n: np.full_like(a, level) for n, a in training.begin(study(), "vae").items()}
    weights.save(folder / "start.safetensors", arrays)
    return {"file": str(folder / "start.safetensors"), "trained_on": "public"}


def begun(params, tmp_path):
    found = beginning(params, "vae", training.described(params, "vae"), tmp_path)
    initial = training.begin(params, "vae", found.arrays)
    return initial, found.told("vae", initial)


def test_the_centre_begins_with_the_file_and_says_what_it_took(tmp_path, capsys):
    params = study(start=file_of(tmp_path) | {"take": [DECODER]})
    initial, about = begun(params, tmp_path)
    assert {n for n, a in initial.items() if (a == np.float32(0.02)).all()} == set(about["names"])
    assert all(name.startswith("autoencoder.decoder.") for name in about["names"])
    said = capsys.readouterr().out
    assert "vae begins with file start.safetensors (SHA-256" in said
    assert "trained on public" in said
    assert f"taken: {about['taken']} of {about['of']} parameters" in said
    assert f"as the seed gives them: {len(about['left'])} (autoencoder.encoder.blocks.0.conv.weight," in said
    assert f"SHA-256 of what sites begin with: {digest(initial)}" in said


def test_a_training_is_another_one_with_another_start(tmp_path):
    plain = training.question(study(), "vae", {})
    keys = set()
    for level in (0.02, 0.03):
        params = study(start=file_of(tmp_path, level))
        _, about = begun(params, tmp_path)
        keys.add(training.question(params, "vae", {}, "", about)["key"])
    assert len(keys | {plain["key"]}) == 3


def test_a_file_that_is_not_the_one_that_params_yaml_names_is_refused(tmp_path):
    params = study(start=file_of(tmp_path) | {"sha256": "0" * 64})
    with pytest.raises(StartError, match=r"has the SHA-256 [0-9a-f]{64}, params.yaml says 0000"):
        begun(params, tmp_path)


def test_a_file_that_has_changed_since_the_run_began_is_refused(tmp_path, monkeypatch):
    params = study(start=file_of(tmp_path))
    monkeypatch.setattr("nvflare_jobs.train.beginning.inputs.start_of_run", lambda *of: {"sha256": "1" * 64})
    with pytest.raises(StartError, match="has changed since this run began"):
        begun(params, tmp_path)


def site(tmp_path, params, received, config, policy, sent):
    real = make_set(tmp_path / "north", params, "north", n=40)
    return SimpleNamespace(
        name="north",
        config=config,
        params=params,
        state=tmp_path / "state",
        settings=SimpleNamespace(processes=1, stall_s=60.0, keep_runs=3),
        gate=gate(policy),
        cells={},
        min_cell=5,
        validated_set=lambda: real,
        seed=lambda: 1,
        model_seed=1,
        tasks=lambda: received,
        update=lambda difference, received, *rest: sent.append((difference, received)),
    )


def train(tmp_path, params, policy=None, initial=None, about=None):
    """What one round of a site sends, of whatever it is sent."""
    config, sent = training.question(params, "vae", {"north": "0" * 64}, "", about), []
    message = [SimpleNamespace(params=initial, current_round=0)]
    client.work(site(tmp_path, params, message, config, policy or Policy(), sent))
    return sent[0]


@pytest.mark.parametrize("policy", [None, Policy(floors=Floors(starts=["0" * 64]))], ids=["none", "another"])
def test_a_site_refuses_weights_that_it_has_not_agreed_to(tmp_path, policy):
    params = study(start=file_of(tmp_path))
    initial, about = begun(params, tmp_path)
    with pytest.raises(PolicyError, match=rf"floors\.starts: .*elsewhere \(SHA-256 {about['weights_sha256']}\)"):
        train(tmp_path, params, policy, initial, about)


def test_a_site_lets_in_weights_whose_digest_it_has_agreed_to_and_no_others(tmp_path):
    params = study(start=file_of(tmp_path))
    initial, about = begun(params, tmp_path)
    policy = Policy(floors=Floors(starts=[about["weights_sha256"]]))
    assert train(tmp_path, params, policy, initial, about)
    other = {name: a * 1.01 for name, a in initial.items()}
    with pytest.raises(PolicyError, match=r"floors\.starts"):
        train(tmp_path, params, policy, other, about)


def test_simulated_hospitals_let_in_what_their_owner_begins_with(tmp_path):
    params = study(start=file_of(tmp_path))
    initial, about = begun(params, tmp_path)
    assert train(tmp_path, params, usual(), initial, about)


def test_a_training_that_goes_on_from_another_adds_to_what_was_spent(tmp_path):
    """Its epsilon is its own; the ledger, and so the cap of a hospital, has both."""
    dp = {"privacy": {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8}}}
    state, facts = tmp_path / "state", []
    first, more = study(**dp), study(start=file_of(tmp_path), **dp)
    for params, of in ((first, (training.begin(first, "vae"), None)), (more, begun(more, tmp_path))):
        config = training.question(params, "vae", {"north": "0" * 64}, "", of[1])
        message = [SimpleNamespace(params=of[0], current_round=0)]
        made = site(tmp_path, params, message, config, usual(), [])
        made.update = lambda difference, received, told, *rest: facts.append(told)
        client.work(made)
    ledger = Ledger(state)
    assert len({entry.key for entry in ledger.entries}) == 2
    alone, both = (of["epsilon_total"] for of in facts)
    assert facts[0]["epsilon"] == pytest.approx(facts[1]["epsilon"], abs=0.1) == pytest.approx(8, abs=0.1)
    assert both == pytest.approx(ledger.epsilon(1e-5))
    assert both > alone + 1


W = {"a": np.linspace(-1, 1, 12, dtype=np.float32), "b": np.ones(3, np.float32)}
SEEDS = {name: a + 5 for name, a in W.items()}


def drift(folder, taken, name="new"):
    return Drift(Floors(starts=["here"]), folder / f"{name}.global.safetensors", lambda: SEEDS, 0.5, taken)


def test_a_site_that_agreed_to_it_lets_in_what_a_training_there_has_ended_with_as_a_whole_or_in_part(tmp_path):
    before = drift(tmp_path, None, "old")
    before.sent(W, {name: np.full_like(a, 0.1) for name, a in W.items()}, 3)
    near = {name: a + 0.1 for name, a in W.items()}
    drift(tmp_path, {"a": "a", "b": "b"}).hold(near, 0)
    drift(tmp_path, {"a": "a"}).hold({"a": near["a"], "b": SEEDS["b"]}, 0)
    for bad in ({"a": near["a"], "b": W["b"]}, {"a": near["a"] + 9, "b": SEEDS["b"]}):
        with pytest.raises(PolicyError, match=r"floors\.starts"):
            drift(tmp_path, {"a": "a"}).hold(bad, 0)
    with pytest.raises(PolicyError, match=r"floors\.start: .*does not begin with the weights"):
        drift(tmp_path, None).hold(near, 0)  # the job says nothing of a start


def test_the_end_of_a_training_here_lets_nothing_in_without_consent(tmp_path):
    drift(tmp_path, None, "old").sent(W, W, 3)
    with pytest.raises(PolicyError, match=r"floors\.starts"):
        Drift(Floors(), tmp_path / "new.global.safetensors", lambda: SEEDS, 0.5, {"a": "a", "b": "b"}).hold(W, 0)


@pytest.mark.parametrize("starts", [[digest(W)], ["here"], ["any"]], ids=["digest", "here", "any"])
def test_what_an_algorithm_sends_beside_agreed_weights_is_as_a_training_begins(tmp_path, starts):
    """No digest counts it, and SCAFFOLD's correction of one step could carry the weights anywhere."""
    control, seeds = {"control:a": np.zeros(12, np.float32)}, SEEDS | {"control:a": np.zeros(12, np.float32)}
    drift(tmp_path, None, "old").sent(W | control, W, 3)
    taken = {name: name for name in W}
    for own in (taken, taken | {"control:a": "control:a"}):
        site = Drift(Floors(starts=starts), tmp_path / "new.global.safetensors", lambda: seeds, 0.5, own)
        site.hold(W | control, 0)
        crafted = W | {"control:a": np.full(12, 1.0, np.float32)}
        assert digest(crafted) == digest(W)
        site = Drift(Floors(starts=starts), tmp_path / "new.global.safetensors", lambda: seeds, 0.5, own)
        with pytest.raises(PolicyError, match=r"floors\.start:"):
            site.hold(crafted, 0)


def test_a_start_that_the_model_does_not_have_lets_nothing_in(tmp_path):
    params = study(start=file_of(tmp_path))
    initial, about = begun(params, tmp_path)
    config = training.question(study(), "vae", {"north": "0" * 64}, "", about)
    message = [SimpleNamespace(params=initial, meta={}, current_round=0)]
    with pytest.raises(PolicyError, match=r"floors\.start:"):
        client.work(site(tmp_path, study(), message, config, usual(), []))


def test_no_array_comes_in_under_the_name_of_another(tmp_path):
    """Two arrays of one name would be held against the training once."""
    before, seeds = drift(tmp_path, None, "old"), SEEDS | {"c": W["a"] + 5}
    before.sent(W, W, 3)
    crafted = {"c": np.full(12, 1e3, np.float32), **W}
    for taken in ({"a": "a", "b": "b", "c": "a"}, {"a": "a", "b": "b", "c": "c"}, {"c": "a", "a": "a"}):
        new = Drift(Floors(starts=["here"]), tmp_path / "new.global.safetensors", lambda: seeds, 0.5, taken)
        with pytest.raises(PolicyError, match=r"floors\.starts"):
            new.hold(crafted, 0)
    with pytest.raises(PolicyError, match=r"floors\.starts"):  # nor in the place of another of its shape
        drift(tmp_path, {"a": "b", "b": "a"}).hold({"a": np.ones(12, np.float32), "b": W["b"]}, 0)


def test_where_no_training_has_ended_here_nothing_is_near(tmp_path):
    with pytest.raises(PolicyError, match=r"floors\.starts"):
        drift(tmp_path, {"a": "a", "b": "b"}).hold(W, 0)


def test_a_start_that_takes_nothing_does_not_let_anything_in(tmp_path):
    drift(tmp_path, None, "old").sent(W, W, 3)
    with pytest.raises(PolicyError, match=r"floors\.starts"):
        drift(tmp_path, {}).hold(W, 0)


def test_frozen_parameters_go_to_a_site_until_it_has_answered(tmp_path, monkeypatch):
    for module in (aggregating, run):
        monkeypatch.setattr(module, "run_dir", lambda fl_ctx: tmp_path)
    made = Aggregate(
        json.dumps({"class_path": "fedsynth.algorithms.fedavg.FedAvg"}), ["east", "north"], 1, frozen=["f"]
    )
    made.fl_ctx = None
    trained, frozen = made.parted({"w": np.zeros(2, np.float32), "f": np.ones(3, np.float32)})
    assert list(trained) == ["w"]
    assert list(frozen) == ["frozen:f"]
    assert made.lack_frozen(["east", "north"])
    made.begin(0, trained, ["east", "north"], {}, False)
    update = SimpleNamespace(
        meta={"client_name": "east", "weight": 1.0}, params={"w": np.ones(2, np.float32)}, metrics={"weight": 1.0}
    )
    made.accept_model(update)
    assert list(made.aggregate_model().params) == ["w"]
    assert not made.lack_frozen(["east"])
    assert made.lack_frozen(["east", "north"])  # north has not been heard


def test_an_update_with_a_frozen_parameter_is_left_out(tmp_path, monkeypatch):
    for module in (aggregating, run):
        monkeypatch.setattr(module, "run_dir", lambda fl_ctx: tmp_path)
    made = Aggregate(json.dumps({"class_path": "fedsynth.algorithms.fedavg.FedAvg"}), ["east"], 1, frozen=["f"])
    made.fl_ctx = None
    trained, _ = made.parted({"w": np.zeros(2, np.float32), "f": np.ones(3, np.float32)})
    made.begin(0, trained, ["east"], {}, False)
    arrays = {"w": np.ones(2, np.float32), "f": np.ones(3, np.float32)}
    made.accept_model(
        SimpleNamespace(meta={"client_name": "east", "weight": 1.0}, params=arrays, metrics={"weight": 1.0})
    )
    with pytest.raises(RuntimeError, match="other parameters or shapes than the centre did"):
        made.aggregate_model()


def test_each_sites_own_model_has_what_is_frozen_too():
    beside = {"east/w": np.ones(1), "north/w": np.ones(1), "n": np.ones(1)}
    found = training.of_members(beside, {"f": np.zeros(1)})
    assert sorted(found) == ["east/f", "east/w", "n", "north/f", "north/w"]
    assert training.of_members(beside, {}) == beside


def test_a_coded_message_with_frozen_parameters_is_what_the_hospital_has_agreed_to(tmp_path, monkeypatch):
    """The trained part comes in 16 bits, the frozen part whole, and the digest is that of both."""
    coding = {"up": {"class_path": "fedsynth.compression.topk.TopK", "args": {"share": 0.1}},
              "down": {"class_path": "fedsynth.compression.quantize.Quantize", "args": {"bits": 2}}}  # fmt: skip
    params = study(rounds=1, start=file_of(tmp_path), trainable=[DECODER], compression=coding)
    initial, about = begun(params, tmp_path)
    frozen = sorted(training.described(params, "vae").frozen & initial.keys())
    made = Aggregate(
        json.dumps({"class_path": "fedsynth.algorithms.fedavg.FedAvg"}),
        ["north"],
        1,
        compression=json.dumps(coding),
        frozen=frozen,
    )
    trained, apart = made.parted(initial)
    coded, have, told = made.coded(trained, 0, ["north"])
    config = training.question(params, "vae", {"north": "0" * 64}, "", about)
    message = [SimpleNamespace(params=coded | apart, meta=told, current_round=0)]
    policy, sent = Policy(floors=Floors(starts=[about["weights_sha256"]])), []
    client.work(site(tmp_path, params, message, config, policy, sent))
    assert sent[0][0].keys() == sent[0][1].keys() == have.keys() == trained.keys()
    kept = weights.load(next((tmp_path / "state" / "train").glob("*.global.safetensors")))
    assert all(np.array_equal(kept[name], initial[name]) for name in frozen)


@pytest.mark.flare
def test_a_training_of_a_part_of_a_file_sends_that_part_alone_and_leaves_the_rest_as_it_was(tmp_path):
    """Through FLARE, from the file to model.json: bytes on the wire, bits of the weights, what is said."""
    patterns = ["autoencoder.decoder.out.*"]
    params = study(rounds=3, start=file_of(tmp_path), trainable=patterns)
    training.stage(params, validated(tmp_path, params, {"east": 60, "north": 60}), "vae")
    arrays = weights.load(tmp_path / "models" / "vae" / weights.FILE)
    start = weights.load(tmp_path / "start.safetensors")
    assert arrays.keys() == start.keys()
    moved = {name for name in start if not np.array_equal(start[name], arrays[name])}
    assert moved == {name for name in start if name.startswith("autoencoder.decoder.out.")}
    whole, part = (sum(a.nbytes for n, a in start.items() if n in of) for of in (start, moved))
    history = json.loads((tmp_path / "models" / "vae" / "history.json").read_text())
    for record in history["rounds"]:
        for of in record["traffic"].values():
            assert of["bytes_up"] < part + 20_000  # and what FLARE adds
            assert (of["bytes_down"] > whole) == (record["round"] == 0)
    about = json.loads((tmp_path / "models" / "vae" / weights.ABOUT).read_text())["began"]
    assert about["sha256"] == weights.sha256(tmp_path / "start.safetensors")
    assert (about["taken"], about["of"]) == (len(start), len(start))
    assert part + 20_000 < whole / 4
