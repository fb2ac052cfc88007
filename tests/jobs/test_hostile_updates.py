"""A hostile site sends anything in a round: it is left out and named, and the others have the round to themselves."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.compression.quantize import Quantize
from fedsynth.training.coding import encode
from nvflare_jobs.server import round_log
from nvflare_jobs.server.aggregator import Aggregate
from nvflare_jobs.server.controller import Rounds

SENT = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32), "none": np.zeros((0, 4), np.float32)}
GOOD = ["east", "north", "south"]
BAD = "west"
SITES = [*GOOD, BAD]
CODING = {"class_path": "fedsynth.compression.quantize.Quantize", "args": {"bits": 4}}
RULES = ["", "median_clip.MedianClip", "median.Median", "trimmed_mean.TrimmedMean", "geometric_median.GeometricMedian"]
ALGORITHMS = ["fedavg.FedAvg", "fedopt.FedOpt", "scaffold.Scaffold"]


def aggregate(folder: Path, algorithm: str = "fedavg.FedAvg", rule: str = "", images: dict | None = None, **more: Any):
    made = Aggregate(
        json.dumps({"class_path": f"fedsynth.algorithms.{algorithm}"}), SITES, more.pop("quorum", 3),
        robust=json.dumps({"class_path": f"fedsynth.robust.{rule}"}) if rule else "",
        images=json.dumps(list(images.items())) if images else "", **more,
    )  # fmt: skip
    made.fl_ctx = SimpleNamespace(
        get_engine=lambda: SimpleNamespace(get_workspace=lambda: SimpleNamespace(get_run_dir=lambda _: str(folder))),
        get_job_id=lambda: "1",
    )
    made.begin(0, SENT, SITES, {}, False)
    return made


def model(site: str, params: Any, weight: Any = 10.0, metrics: Any = None, **meta: Any) -> SimpleNamespace:
    metrics = {"loss/net": 0.5, "steps": 3.0, "weight": 10.0} if metrics is None else metrics
    return SimpleNamespace(meta={"client_name": site, "weight": weight} | meta, params=params, metrics=metrics)


def arrays(seed: int = 0, scale: float = 0.1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: (scale * rng.normal(size=a.shape)).astype(np.float32) for name, a in SENT.items()}


def honest() -> list[SimpleNamespace]:
    return [model(site, arrays(i), 10.0 * (i + 1)) for i, site in enumerate(GOOD)]


def round_of(hostile: list[Any], **how: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The change of a round with these messages beside those of the honest sites, and its record."""
    with tempfile.TemporaryDirectory() as folder:
        made = aggregate(Path(folder), **how)
        for message in [*hostile, *honest()]:
            made.accept_model(message)
        change = made.aggregate_model().params
        (record,) = round_log.read(Path(folder) / round_log.ROUNDS)
        return change, record


junk = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=8),
        st.sampled_from([10**400, -(10**400), math.nan, math.inf, "1", "nan", b"1", 1j, np.float32(np.nan), object()]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)  # fmt: skip
spoilt_arrays = st.sampled_from(
    [
        np.full((2, 3), np.nan, np.float32), np.full((2, 3), np.inf, np.float32), np.full((2, 3), 3e38, np.float32),
        np.full((2, 3), 1e300), np.full((2, 3), -1e20), np.zeros((2, 3), complex), np.zeros((2, 3), object),
        np.zeros((2, 3), bool), np.zeros((2, 3), np.int64), np.zeros((2, 3), np.longdouble), np.zeros((2, 3), "U4000"),
        np.zeros((2, 3), "M8[s]"), np.zeros((2, 3), [("a\x1b[31m", float)]), np.zeros((3, 2), np.float32),
        np.zeros((), np.float32), np.zeros((0, 3), np.float32), np.ma.masked_all((2, 3), np.float32),
        np.zeros((2, 3), np.float32).view(np.recarray), [[0.0] * 3] * 2, "w", 0.0, None,
    ]
)  # fmt: skip
not_weights = junk.filter(
    lambda w: isinstance(w, bool) or not isinstance(w, int | float) or not 1 <= w <= 1e9  # also NaN
)
not_numbers = st.one_of(
    junk.filter(lambda m: type(m) is not dict or m != {}),
    st.dictionaries(st.sampled_from(["loss/net", "steps", "score", "epsilon", "weight"]),
                    junk.filter(lambda n: type(n) not in (int, float) or not abs(n) < 1e308), min_size=1),
    st.just({f"loss/{i}": 0.0 for i in range(100)}), st.just({"loss/" + "x" * 100: 0.0}), st.just({"score": 1e9}),
    st.just({"loss/<script>": 0.0}), st.just({"patient": 4711.0}), st.just({("loss/net",): 0.0}),
)  # fmt: skip
hostile_messages = st.one_of(
    st.builds(lambda a: model(BAD, arrays(9) | {"w": a}), spoilt_arrays),
    st.builds(lambda name: model(BAD, arrays(9) | {name: SENT["w"]}), st.one_of(st.text(max_size=5), st.just("w/../x"))
              .filter(lambda name: name not in SENT)),
    st.builds(lambda a: model(BAD, a), junk.filter(lambda a: a is not ...)),
    st.builds(lambda w: model(BAD, arrays(9), w), not_weights),
    st.builds(lambda m: model(BAD, arrays(9), metrics=m), not_numbers.filter(lambda m: m is not None)),
    st.builds(lambda word: model(BAD, arrays(9), failed=word), junk),
    st.just(SimpleNamespace(meta={"client_name": BAD}, params=arrays(9), metrics=None)),
    st.just(SimpleNamespace(meta={"client_name": BAD}, params=None, metrics={})),
)  # fmt: skip


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=25)
@given(hostile=hostile_messages)
def test_whatever_a_site_sends_it_is_left_out_and_the_round_is_that_of_the_good_sites(hostile, rule, algorithm):
    change, record = round_of([hostile], algorithm=algorithm, rule=rule)
    alone, _ = round_of([], algorithm=algorithm, rule=rule)
    assert all(a.dtype == np.float32 and a.tobytes() == alone[name].tobytes() for name, a in change.items())
    assert all(np.isfinite(a).all() for a in change.values())
    assert list(record["left_out"]) == [BAD]
    assert sorted(record["sites"]) == GOOD
    assert record["left_out"][BAD].isprintable()
    assert len(record["left_out"][BAD]) < 300


@settings(max_examples=100)
@given(hostile=hostile_messages)
def test_a_coded_update_is_held_to_the_same(hostile):
    def coded(message: Any) -> Any:
        site = message.meta["client_name"]
        return model(site, encode(Quantize(4), message.params), message.meta["weight"])

    with tempfile.TemporaryDirectory() as folder:
        made = aggregate(Path(folder), compression=json.dumps({"up": CODING}))
        for message in [hostile, *map(coded, honest())]:
            made.accept_model(message)
        assert all(np.isfinite(a).all() for a in made.aggregate_model().params.values())
        assert list(made.records[0]["left_out"]) == [BAD]


@settings(max_examples=100)
@given(
    scale=st.floats(min_value=1e-30, max_value=1e19),
    weights=st.lists(st.floats(min_value=1, max_value=1e9), min_size=4, max_size=4),
    algorithm=st.sampled_from(ALGORITHMS), rule=st.sampled_from(RULES), low=st.booleans(),
)  # fmt: skip
def test_what_is_taken_never_adds_up_to_what_is_not_finite(scale, weights, algorithm, rule, low):
    """The largest numbers and weights that pass, at all sites at once."""
    with tempfile.TemporaryDirectory() as folder:
        made = aggregate(Path(folder), algorithm=algorithm, rule=rule, quorum=1)
        for i, (site, w) in enumerate(zip(SITES, weights, strict=True)):
            update = {n: np.full(a.shape, (-1 if low and i % 2 else 1) * scale, np.float64) for n, a in SENT.items()}
            made.accept_model(model(site, update, w))
        assert all(np.isfinite(a).all() for a in made.aggregate_model().params.values())


def test_a_site_that_was_not_asked_or_answers_twice_is_left_out_and_named(tmp_path):
    change, record = round_of([model(BAD, arrays(9)), model(BAD, arrays(8)), model("stranger", arrays(7))])
    assert record["left_out"] == {
        "stranger": "answered without being asked",
        "west": "answered 2 times in one round",
    }
    np.testing.assert_array_equal(change["w"], round_of([])[0]["w"])


IMAGES = {"east": 10, "north": 20, "south": 30, "west": 10}


@pytest.mark.parametrize("claimed", [10.5, 11, 500, 1e9])
def test_no_site_weighs_more_than_validation_has_shown_of_it_and_who_says_more_is_named(claimed):
    change, record = round_of([model(BAD, arrays(9), claimed)], images=IMAGES)
    np.testing.assert_array_equal(change["w"], round_of([model(BAD, arrays(9), 10.0)], images=IMAGES)[0]["w"])
    assert list(record["bounded"]) == [BAD]
    assert record["bounded"][BAD].endswith("counts as the 10 images that validation has shown")
    assert record["sites"][BAD]["weight"] == 10.0
    assert "left_out" not in record


def test_a_site_may_say_fewer_images_than_validation_has_shown():
    _, record = round_of([model(BAD, arrays(9), 4.0)], images=IMAGES)
    assert "bounded" not in record
    assert record["sites"][BAD]["weight"] == 4.0


def test_a_round_of_too_few_is_refused_with_each_reason_and_a_rule_needs_three(tmp_path):
    for rule, quorum, said in (("", 4, "4 are needed"), ("median.Median", 1, "3 are needed")):
        made = aggregate(tmp_path, rule=rule, quorum=quorum)
        for message in [model(BAD, "nothing"), *honest()[: 3 if quorum == 4 else 2]]:
            made.accept_model(message)
        with pytest.raises(RuntimeError, match=said) as error:
            made.aggregate_model()
        assert "site west: sent no arrays" in str(error.value)
        assert round_log.refused(tmp_path) == str(error.value)


def test_a_round_that_would_make_the_global_parameters_infinite_is_refused_with_the_largest_updates(tmp_path):
    made = aggregate(tmp_path)
    made.begin(0, SENT | {"w": np.full((2, 3), 3.4e38, np.float32)}, SITES, {}, False)
    made.built.aggregate = lambda good: {name: np.full_like(a, 1e38) for name, a in SENT.items()}
    for message in honest():
        made.accept_model(message)
    with pytest.raises(RuntimeError, match="the round makes w infinite; the largest number of each site's update"):
        made.aggregate_model()


def test_a_robust_rule_bounds_a_site_that_can_be_read_and_the_record_says_by_how_much():
    _, record = round_of([model(BAD, arrays(9, scale=100.0))], rule="median_clip.MedianClip")
    assert list(record["bounded"]) == [BAD]
    assert "times the median, and was scaled down to 1 times" in record["bounded"][BAD]
    assert "bounded" not in round_of([model(BAD, arrays(9))], rule="median_clip.MedianClip")[1]


def test_scaffolds_control_variates_are_bounded_apart_from_the_parameters():
    big = arrays(9) | {f"control:{name}": 1e6 + a for name, a in arrays(9).items()}
    sent = SENT | {f"control:{name}": a for name, a in SENT.items()}
    with tempfile.TemporaryDirectory() as folder:
        made = aggregate(Path(folder), "scaffold.Scaffold", "geometric_median.GeometricMedian")
        made.begin(0, sent, SITES, {}, False)
        for message in [model(BAD, big), *honest()]:
            message.params = {f"control:{n}": a for n, a in message.params.items() if ":" not in n} | message.params
            made.accept_model(message)
        change = made.aggregate_model().params
        assert np.abs(change["control:w"]).max() < 1
        assert made.records[0]["bounded"][BAD].startswith("control variate: its update counts")


def test_a_model_that_draws_no_images_does_not_spoil_the_weights_of_fedcar():
    import torch

    from fedsynth.algorithms.fedcar import FedCAR

    class Family(torch.nn.Module):
        labels = 2

        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        @torch.no_grad()
        def sample(self, y, given=None, generator=None):
            if self.w > 1e9:
                raise RuntimeError("probability tensor contains either inf, nan or element < 0")
            return (self.w * 1e38 * 10 if self.w > 1 else self.w) + torch.randn((len(y), 1, 8, 8), generator=generator)

    updates = [(site, 1.0, {"w": np.float32([0.1])}) for site in GOOD]
    for hostile in (100.0, 1e10):
        algorithm = FedCAR()
        algorithm.before_aggregate(Family, {"w": np.zeros(1, np.float32)}, {})
        change = algorithm.aggregate([*updates, (BAD, 1.0, {"w": np.float32([hostile])})])
        np.testing.assert_allclose(change["w"], [0.1])
        assert list(algorithm.said) == [BAD]


class TestTheControllerOfTheRounds:
    """What FLARE itself cannot read, skips, or fails at."""

    @pytest.fixture
    def rounds(self, tmp_path) -> Rounds:
        made = object.__new__(Rounds)
        made.aggregator, made._in_round, made._received_count = aggregate(tmp_path), True, 0
        made.error = lambda said: None
        return made

    def task(self, code: Any = "OK") -> Any:
        return SimpleNamespace(
            client=SimpleNamespace(name=BAD), result=SimpleNamespace(get_return_code=lambda: code)
        )  # fmt: skip

    @pytest.mark.parametrize("fails", [False, True])
    def test_an_answer_that_flare_drops_is_named(self, rounds, monkeypatch, fails):
        def process(self, task, fl_ctx):
            if fails:
                raise TypeError("unhashable type")

        monkeypatch.setattr("nvflare.app_common.workflows.fedavg.FedAvg._process_result", process)
        rounds._process_result(self.task(), None)
        for message in honest():
            assert rounds._aggregate_one_result(message)
        rounds.aggregator.aggregate_model()
        assert rounds.aggregator.records[0]["left_out"][BAD].startswith("sent what is no update")

    def test_an_answer_that_flare_would_skip_is_named_too(self, rounds):
        for message in [model(BAD, np.zeros(3)), *honest()]:  # `if not result.params` raises for an array
            rounds._aggregate_one_result(message)
        rounds.aggregator.aggregate_model()
        assert rounds.aggregator.records[0]["left_out"][BAD] == "sent no arrays"

    def test_a_site_whose_process_has_failed_may_have_gone(self, rounds, monkeypatch):
        monkeypatch.setattr("nvflare.app_common.workflows.fedavg.FedAvg._process_result", lambda *_: None)
        rounds._process_result(self.task("EXECUTION_EXCEPTION"), None)
        for message in honest():
            rounds._aggregate_one_result(message)
        rounds.aggregator.aggregate_model()
        assert rounds.aggregator.records[0]["left_out"][BAD] == round_log.LATE


def test_losses_of_other_players_than_the_model_has_leave_a_site_out():
    """Else every round could bring new names into the history and MLflow."""
    hostile = model(BAD, arrays(9), metrics={"loss/net": 0.5, "loss/other": 0.5})
    assert BAD in round_of([hostile])[1]["sites"]
    _, record = round_of([hostile], players=["net", "rests"])
    assert record["left_out"][BAD].startswith("sent losses of other players than the model has")
    assert sorted(record["sites"]) == GOOD


def test_the_mean_is_that_of_the_algorithm():
    expected = FedAvg().aggregate([(m.meta["client_name"], m.meta["weight"], m.params) for m in honest()])
    found, _ = round_of([])
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
