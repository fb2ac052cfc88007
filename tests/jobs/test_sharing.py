"""What the server's aggregator does with algorithms that share otherwise than FedAvg, without FLARE."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fedsynth.errors import UserError
from nvflare_jobs.server import aggregator as aggregating
from nvflare_jobs.server import round_log, run
from nvflare_jobs.server.aggregator import Aggregate
from nvflare_jobs.server.saved import BESIDE, GLOBAL, SavedRounds
from nvflare_jobs.train import job as training
from tests.sets import tiny_params

SITES = ["east", "north", "south"]
SENT = {"w": np.zeros(2, np.float32), "norm.w": np.zeros(2, np.float32)}
VALIDATION = {
    "used": ["north", "east"],
    "sites": {
        "north": {"counts": {"none": {"train": 12}, "infiltrating": {"train": "< 5"}}},
        "east": {"counts": {"extra_axial": {"train": 7}}},
    },
}


@pytest.fixture
def make(tmp_path, monkeypatch):
    for module in (aggregating, run):
        monkeypatch.setattr(module, "run_dir", lambda fl_ctx: tmp_path)

    def aggregator(name: str, quorum: int = 3, **args):
        made = Aggregate(json.dumps({"class_path": f"fedsynth.algorithms.{name}", "args": args}), SITES, quorum)
        made.fl_ctx = None
        return made

    return aggregator


def answer(site: str, level: float, names=("w",), **metrics: float):
    arrays = {name: np.full(2, level, np.float32) for name in names}
    return SimpleNamespace(
        meta={"client_name": site, "weight": 10.0}, params=arrays, metrics={"weight": 10.0} | metrics
    )


def records(folder):
    return round_log.read(folder / round_log.ROUNDS)


def test_a_site_whose_turn_it_is_not_is_not_said_to_be_left_out(make, tmp_path):
    aggregator = make("cyclic.Cyclic")
    aggregator.begin(1, {"w": SENT["w"]}, ["north"], {}, False)
    aggregator.accept_model(answer("north", 3))
    np.testing.assert_array_equal(aggregator.aggregate_model().params["w"], [3, 3])
    (record,) = records(tmp_path)
    assert list(record["sites"]) == ["north"]
    assert "left_out" not in record


def test_a_site_that_missed_its_turn_is_said_to_be_left_out(make, tmp_path):
    aggregator = make("cyclic.Cyclic")
    aggregator.begin(0, {"w": SENT["w"]}, ["north"], {}, False)  # east is not connected
    aggregator.accept_model(answer("north", 3))
    aggregator.aggregate_model()
    assert list(records(tmp_path)[0]["left_out"]) == ["east"]


def test_every_sites_own_model_lies_beside_the_mean(make, tmp_path):
    aggregator = make("oneshot.OneShot")
    aggregator.begin(0, {"w": SENT["w"] + 1}, SITES, {}, True)
    for level, site in enumerate(SITES):
        aggregator.accept_model(answer(site, level))
    np.testing.assert_array_equal(aggregator.aggregate_model().params["w"], [1, 1])
    beside = load_file(tmp_path / BESIDE)
    assert {name: array[0] for name, array in beside.items()} == {"east/w": 1, "north/w": 2, "south/w": 3}


def test_the_scores_of_the_sites_weigh_them(make, tmp_path):
    aggregator = make("fedavg.FedAvg", weighting="validation")
    aggregator.begin(0, {"w": SENT["w"]}, SITES, {}, False)
    for site, level, score in (("east", 1, 30.0), ("north", 0, 20.0), ("south", 0, 10.0)):
        aggregator.accept_model(answer(site, level, score=score))
    np.testing.assert_allclose(aggregator.aggregate_model().params["w"], [0.5, 0.5])
    assert records(tmp_path)[0]["sites"]["east"]["score"] == 30.0


def test_an_update_with_a_parameter_that_did_not_go_out_is_left_out(make, tmp_path):
    aggregator = make("fedbn.FedBN", quorum=2)
    assert aggregator.built.arrays_sent(list(SENT), last=False) == ["w"]
    aggregator.begin(0, {"w": SENT["w"]}, SITES, {}, False)
    for site in ("east", "north"):
        aggregator.accept_model(answer(site, 1))
    aggregator.accept_model(answer("south", 1, names=("w", "norm.w")))
    aggregator.aggregate_model()
    assert "other parameters" in records(tmp_path)[0]["left_out"]["south"]


def test_the_mixtures_shares_are_the_counts_that_validation_has_shown():
    params = tiny_params(image={"labels": ["none", "infiltrating", "extra_axial"]})
    assert training.shares(params, VALIDATION) == {"north": [12, 1, 0], "east": [0, 0, 7]}
    untold = tiny_params(image={"labels": ["none", "infiltrating", "extra_axial"], "given": ["t1"]})
    assert training.shares(untold, VALIDATION) == {"north": [13, 13, 13], "east": [7, 7, 7]}


def test_what_lies_beside_the_model_is_kept_with_it(tmp_path):
    (tmp_path / "run").mkdir()
    for name in (round_log.ROUNDS, GLOBAL, BESIDE):
        (tmp_path / "run" / name).write_bytes(b"")
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "run" / GLOBAL, metadata={"round": "0"})
    keeper = SavedRounds.__new__(SavedRounds)
    keeper.folder = tmp_path / "kept"
    keeper.save(tmp_path / "run")
    (tmp_path / "again").mkdir()
    assert keeper.restore(tmp_path / "again") == 1
    assert (tmp_path / "again" / BESIDE).is_file()


def test_a_cycle_with_a_lossy_coding_is_refused():
    coding = {"up": {"class_path": "fedsynth.compression.quantize.Quantize", "args": {"bits": 2}}}
    cyclic = {"class_path": "fedsynth.algorithms.cyclic.Cyclic"}
    block = tiny_params().models["vae"].model_dump(mode="json") | {"algorithm": cyclic, "compression": coding}
    with pytest.raises(UserError, match="a whole cycle late"):
        training.begin(tiny_params(models={"vae": block}), "vae")


def test_in_a_round_of_averaged_weights_the_servers_optimiser_takes_no_step(make):
    aggregator = make("fedopt.FedOpt", optimizer="Adam", lr=0.01)
    aggregator.averaged = [1]
    for number, expected in ((0, 0.01), (1, 3.0)):
        aggregator.begin(number, {"w": SENT["w"]}, SITES, {}, number == 1)
        for site in SITES:
            aggregator.accept_model(answer(site, 3))
        np.testing.assert_allclose(aggregator.aggregate_model().params["w"], expected, rtol=1e-5)
        aggregator.reset_stats()


def test_a_sites_steps_follow_from_its_images_and_not_from_what_it_says(make):
    """80 and 16 images in batches of 8, twice: 20 and 4 steps, of which sites may say anything."""
    job = {"model": {"training": {"rounds": 3, "epochs": 2, "batch": 8}}}
    aggregator = make("fednova.FedNova", quorum=2)
    aggregator.begin(0, {"w": SENT["w"]}, SITES[:2], job, False)
    for site, images, level in (("east", 80.0, 10.0), ("north", 16.0, 2.0)):
        message = answer(site, level, steps=1e9)
        message.meta["weight"] = images
        aggregator.accept_model(message)
    shares, steps, moved = np.array([5 / 6, 1 / 6]), np.array([20, 4]), np.array([10.0, 2.0])
    expected = (shares @ steps) * (shares @ (moved / steps))
    np.testing.assert_allclose(aggregator.aggregate_model().params["w"], expected, rtol=1e-6)
