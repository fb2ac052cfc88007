"""Several trainings of one model: which are, what they say together, and how sure that is."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from fedsynth.params import Params
from fedsynth.report import trainings_table
from fedsynth.worth.trainings import _one, gated, together
from tests.sets import tiny_params

NAMES = ("vae", "vae_2", "vae_3")
T = 4.302653  # Student's t with two degrees of freedom, 97.5 %


def params(**gates: list[str]) -> Params:
    """Three trainings of one model, and another model."""
    block = tiny_params().models["vae"].model_dump(mode="json")
    models = {name: block | {"seed": seed} for name, seed in zip(NAMES, (None, 2, 3), strict=True)}
    other = block | {"training": block["training"] | {"rounds": 9}}
    return tiny_params(models=models | {"other": other}, gates=gates)


def facts(name: str, *values: float, half: float = 0.0) -> dict[str, dict]:
    return {
        model: {"numbers": {name: value}, "intervals": {name: [value - half, value + half]} if half else {}}
        for model, value in zip(NAMES, values, strict=False)
    }


def test_blocks_that_differ_in_their_seed_alone_are_trainings_of_one_model():
    assert params().trainings() == [list(NAMES)]
    assert tiny_params().trainings() == []


def test_the_same_seed_twice_is_one_training():
    block = tiny_params().models["vae"].model_dump(mode="json")
    made = tiny_params(seed=3, models={"a": block, "b": block | {"seed": 3}, "c": block | {"seed": 4}})
    assert made.trainings() == [["a", "c"]]


def test_each_training_has_its_own_seed_and_the_study_s_without_one():
    made = params()
    assert [made.seeded(made.models[name].seed).seed for name in (*NAMES, "other")] == [made.seed, 2, 3, made.seed]


def test_the_interval_holds_the_trainings_beside_patients():
    values = (0.91, 0.99, 0.70)
    of = together(params(), facts("fid", *values, half=0.05))[NAMES][0]
    half = (0.05**2 + (T * statistics.stdev(values)) ** 2 / 3) ** 0.5
    assert (of.mean, of.low, of.high) == pytest.approx((0.8667, 0.8667 - half, 0.8667 + half), abs=1e-4)
    assert of.high - of.low > 3 * 2 * 0.05  # one training's own interval would say .1


def test_an_exact_number_has_the_trainings_alone():
    of = together(params(), facts("epsilon", 1.0, 2.0, 3.0))[NAMES][0]
    assert (of.low, of.high) == pytest.approx((2 - T / 3**0.5, 2 + T / 3**0.5), abs=1e-4)


def test_a_number_without_an_interval_of_its_own_has_none_together():
    of = together(params(), facts("classification/auroc", 0.7, 0.8, 0.9))[NAMES][0]
    assert (of.mean, of.low, of.high) == (pytest.approx(0.8), None, None), "patients vary, and nobody says how much"


def test_an_end_without_a_bound_in_one_training_has_none_together():
    told = facts("fid", 0.1, 0.2, 0.3, half=0.1)
    told["vae_2"]["intervals"]["fid"] = [None, 0.3]
    of = together(params(), told)[NAMES][0]
    assert of.low is None
    assert of.high is not None


def test_a_number_that_one_training_lacks_is_left_out():
    told = facts("fid", 0.1, 0.2, 0.3)
    told["vae_3"]["numbers"]["fid"] = None
    assert together(params(), told) == {NAMES: []}


def test_a_training_that_was_not_judged_is_not_counted():
    assert list(together(params(), facts("fid", 0.1, 0.2))) == [NAMES[:2]]
    assert together(params(), facts("fid", 0.1)) == {}


def test_the_page_shows_what_gates_ask_for_with_the_best_known_name():
    told = facts("fid", 0.1, 0.2, 0.3)
    for of in told.values():
        of["numbers"] |= {"fid@north": 0.5, "kid": 1.0}
    asked = params(require=["fid <= 1"], warn=["fid@north <= 1 by point", "fid@worst_site <= 1"])
    assert [of.name for of in gated(asked, told)[NAMES]] == ["fid", "fid@north"]
    table = trainings_table.tables(asked, told)[0]
    assert table["models"] == list(NAMES)
    assert table["lines"][1] == {"name": "fid@north", "mean": "0.500", "interval": "not known", "each": ["0.500"] * 3}
    assert set(trainings_table.frame(asked, told)["number"]) == {"fid", "fid@north", "kid"}


@pytest.mark.parametrize("trainings", [2, 3, 5])
@pytest.mark.parametrize(("between", "patients"), [(0.05, 0.01), (0.03, 0.03), (0.01, 0.05)])
def test_the_interval_covers_the_mean_of_all_trainings(trainings, between, patients):
    """3000 studies of a model whose trainings differ by `between` and whose test patients shift all alike."""
    rng, held = np.random.default_rng(trainings), 0
    for _ in range(3000):
        shift = rng.normal(0, patients)
        values = [0.8 + shift + rng.normal(0, between) for _ in range(trainings)]
        of = _one("x", values, [[v - 1.96 * patients, v + 1.96 * patients] for v in values])
        held += of.low <= 0.8 <= of.high
    assert held / 3000 > 0.94  # within chance of .95 or more
