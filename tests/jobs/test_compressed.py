"""A coded exchange between the server's aggregator and a site's client, without FLARE: both have the same, and nothing
bad gets in.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from nvflare.client import FLModel

from fedsynth.compression.quantize import Quantize
from fedsynth.compression.topk import TopK
from fedsynth.hospital.outgoing import LeakError, leave_coded
from fedsynth.training.coding import encode
from nvflare_jobs.server import aggregator as aggregating
from nvflare_jobs.server import round_log, run
from nvflare_jobs.server.aggregator import Aggregate
from nvflare_jobs.site.site import Site
from nvflare_jobs.train import client
from nvflare_jobs.train import job as training
from tests.jobs.gates import gate
from tests.sets import make_set, tiny_params

FEDAVG = json.dumps({"class_path": "fedsynth.algorithms.fedavg.FedAvg", "args": {}})
UP = {"class_path": "fedsynth.compression.topk.TopK", "args": {"share": 0.1}}
DOWN = {"class_path": "fedsynth.compression.quantize.Quantize", "args": {"bits": 2}}


@pytest.fixture
def make(tmp_path, monkeypatch):
    for module in (aggregating, run):
        monkeypatch.setattr(module, "run_dir", lambda fl_ctx: tmp_path)

    def aggregator(sites: list[str], quorum: int = 1, **compression):
        made = Aggregate(FEDAVG, sites, quorum, compression=json.dumps(compression) if compression else "")
        made.fl_ctx = None
        return made

    return aggregator


def train(aggregator, tmp_path, monkeypatch, **compression) -> tuple[dict[str, np.ndarray], list[tuple]]:
    """The global parameters after a whole training of one site, and for each round what went down and up."""
    block = {
        "family": {"class_path": "fedsynth.families.vae.VAE"},
        "training": {"rounds": 4, "epochs": 1, "batch": 8, "lr": 2e-3},
    }
    params = tiny_params(models={"vae": block | ({"compression": compression} if compression else {})})
    sent, went, result = [], [], {}
    monkeypatch.setattr("nvflare_jobs.site.site.flare.send", sent.append)

    def tasks():
        current = training.begin(params, "vae")
        for number in range(4):
            message, have, about = aggregator.coded(current, number, ["north"])
            aggregator.begin(number, have, ["north"], {}, number == 3)
            aggregator.reset_stats()
            yield SimpleNamespace(params=message, meta=about, current_round=number)
            went.append((message, sent[-1].params))
            sent[-1].meta["client_name"] = "north"
            aggregator.accept_model(sent[-1])
            change = aggregator.aggregate_model().params
            current = {name: a + change[name] for name, a in current.items()}
        result.update(current)

    real = make_set(tmp_path / "north", params, "north", n=40)
    site = SimpleNamespace(
        config=training.question(params, "vae", {}),
        params=params,
        state=tmp_path / "state",
        settings=SimpleNamespace(keep_runs=3, processes=1, stall_s=60),
        tasks=tasks,
        min_cell=5,
        cells={},
        validated_set=lambda: real,
        seed=lambda: 1,
        model_seed=1,
    )
    site.gate, site._received, site.still = gate(), None, lambda: None
    site.update = lambda *what: Site.update(site, *what)
    client.work(site)
    return result, went


def size(arrays: dict[str, np.ndarray]) -> int:
    return sum(a.nbytes for a in arrays.values())


def off(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(a[n] - b[n]).sum() for n in a)))


def test_a_coded_training_sends_a_fraction_and_comes_near_to_where_the_plain_one_does(make, tmp_path, monkeypatch):
    plain, whole = train(make(["north"]), tmp_path / "plain", monkeypatch)
    coded, went = train(make(["north"], up=UP, down=DOWN), tmp_path / "coded", monkeypatch, up=UP, down=DOWN)
    full = size(whole[0][0])
    # the first is whole, and half as large
    assert [full / size(down) > 11 for down, _ in went] == [False, True, True, True]
    assert [full / size(up) > 11 for _, up in went] == [True, True, True, False]
    assert all(1.9 < full / size(of) < 2.1 for of in (went[0][0], went[3][1]))
    start = whole[0][0]
    assert off(coded, plain) < 0.5 * off(plain, start)


@pytest.mark.parametrize(("way", "block"), [("up", UP), ("down", DOWN)])
def test_one_way_can_be_coded_alone(make, tmp_path, monkeypatch, way, block):
    _, went = train(make(["north"], **{way: block}), tmp_path, monkeypatch, **{way: block})
    down, up = went[1]
    assert (size(up) < size(down)) == (way == "up")


SENT = {"w": np.zeros((40, 40), np.float32), "b": np.zeros(8, np.float32)}


def answer(site: str, arrays: dict[str, np.ndarray]) -> FLModel:
    return FLModel(
        params=arrays, params_type="DIFF", metrics={"weight": 1.0}, meta={"weight": 1.0, "client_name": site}
    )


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (SENT, "the coded arrays are not places, values, scales"),
        (encode(Quantize(2), SENT), "the coded arrays are not"),
        (encode(TopK(0.2), SENT), "the coded places are not 164 numbers of uint8"),
        (encode(TopK(0.1), SENT) | {"scales": np.full(8, np.nan, np.float32)}, "hold NaN"),
        (encode(TopK(0.1), SENT) | {"scales": np.full(8, -1, np.float32)}, "a scale is negative"),
        (encode(TopK(0.1), SENT) | {"places": np.full(164, 255, np.uint8)}, "beyond its block"),
        (
            encode(TopK(0.1), {n: a + 1 for n, a in SENT.items()}) | {"scales": np.full(8, 3e38, np.float32)},
            "sent numbers as large as 3e+38",
        ),
    ],
)
def test_what_cannot_be_decoded_is_left_out_with_the_reason_and_the_round_goes_on(make, tmp_path, arrays, said):
    aggregator = make(["east", "north"], up=UP)
    aggregator.begin(0, SENT, ["east", "north"], {}, False)
    aggregator.accept_model(answer("east", encode(TopK(0.1), {n: a + 1 for n, a in SENT.items()})))
    aggregator.accept_model(answer("north", arrays))
    change = aggregator.aggregate_model().params
    assert all(np.isfinite(a).all() for a in change.values())
    left_out = round_log.read(tmp_path / round_log.ROUNDS)[0].get("left_out", {})
    assert said in left_out["north"]


def test_only_sites_that_answered_the_round_before_get_a_change_and_all_get_the_same(make):
    aggregator = make(["east", "north"], up=UP, down=DOWN)
    kinds = []
    for number, answering in enumerate([["east", "north"], ["east"], ["east", "north"], ["east", "north"]]):
        _, have, about = aggregator.coded(SENT, number, ["east", "north"])
        kinds.append("since" in about["coding"])
        aggregator.begin(number, have, ["east", "north"], {}, False)
        aggregator.reset_stats()
        for site in answering:
            aggregator.accept_model(answer(site, encode(TopK(0.1), SENT)))
        aggregator.aggregate_model()
    assert kinds == [False, True, False, True]


def test_coded_arrays_leave_a_hospital_in_the_form_of_their_coding_alone():
    shapes = {name: a.shape for name, a in SENT.items()}
    coded = encode(TopK(0.1), SENT)
    assert leave_coded(coded, TopK(0.1), shapes).keys() == coded.keys()
    with pytest.raises(LeakError, match="may not leave the site: the coded arrays are not"):
        leave_coded(coded | {"patients": np.zeros(3, np.uint8)}, TopK(0.1), shapes)
    with pytest.raises(LeakError, match="larger than what it codes"):
        leave_coded(encode(Quantize(8), {"x": np.ones(1, np.float32)}), Quantize(8), {"x": (1,)})
