"""Sites' numbers become one by their real images; intervals narrow with sites only where the sites' own images vary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedsynth.measures import DRAWS, Value, beside_floor, bootstrap, interval, mean
from tests.measures.seen import centre, look
from tests.sets import tiny_params

NORTH, EAST = Value(2.0, {"real": 30, "synthetic": 50}, 1.0, 1.0, 3.0), Value(4.0, {"real": 10, "synthetic": 60}, 3.0, 3.0, 5.0)


def test_the_mean_is_by_real_images() -> None:
    found = mean({"north": NORTH, "east": EAST})
    assert (found.value, found.floor) == (2.5, 1.5)
    assert found.n == {"real": 40, "synthetic": 60}, "all sites see the same synthetic images"


def test_independent_sites_narrow_the_interval_and_a_shared_set_does_not() -> None:
    own, shared = (mean({"north": NORTH, "east": EAST}, independent) for independent in (True, False))
    assert (shared.low, shared.high) == (1.5, 3.5)
    assert own.high - own.low == pytest.approx(2 * np.hypot(0.75, 0.25))  # type: ignore[operator]
    assert (own.high + own.low) / 2 == pytest.approx(2.5)  # type: ignore[operator]


def test_one_site_without_a_number_leaves_none_and_one_without_a_floor_no_floor() -> None:
    assert mean({"north": NORTH, "east": Value(None, {"real": 10})}).value is None
    assert mean({}).value is None
    found = mean({"north": NORTH, "east": Value(4.0, {"real": 10})})
    assert (found.value, found.floor, found.low) == (2.5, None, None)


def test_value_and_floor_rest_on_as_many_images(tmp_path: Path) -> None:
    seen, asked = look(tmp_path, tiny_params()), []

    def size(reference: np.ndarray, candidate: np.ndarray) -> dict[str, float]:
        asked.append((len(reference), len(candidate)))
        return {"n": float(candidate.mean())}

    held_out, few, many = np.zeros((7, 1)), np.arange(5.0)[:, None], np.arange(9.0)[:, None]
    for train, synthetic in ((few, many), (many, few)):
        asked.clear()
        found = beside_floor(seen, size, held_out, train, synthetic, "test")["n"]
        assert set(asked) == {(7, 5)}
        assert len(asked) == DRAWS + 1
        assert found.n == {"real": 7, "train": 5, "synthetic": 5}
        assert (found.low is None) == (synthetic is few), "the whole set again and again has no interval"
    assert found.floor == pytest.approx(4, abs=1.5)
    assert found.value == 2


def test_an_interval_holds_the_middle_95_percent_of_its_replicates() -> None:
    found = interval(np.arange(1001.0), 500.0, {"real": 3}, 7.0)
    assert (found.value, found.floor, found.low, found.high) == (500, 7, 25, 975)
    assert interval(np.array([1.0]), float("nan"), {"real": 3}) == Value(None, {"real": 3})
    assert interval(np.array([1.0]), 1.0, {}, float("nan")).floor is None


def test_the_bootstrap_of_a_mean_is_as_wide_as_its_standard_error(tmp_path: Path) -> None:
    seen = look(tmp_path, tiny_params())
    sample = np.random.default_rng(0).normal(size=200)
    found = bootstrap(seen, np.mean, sample, purpose="test", n={"real": 200}, times=2000)
    assert found.value == pytest.approx(sample.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * sample.std() / np.sqrt(200), rel=0.1)  # type: ignore[operator]


def test_there_is_nothing_real_at_the_centre(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no real images"):
        _ = centre(look(tmp_path, tiny_params())).real
