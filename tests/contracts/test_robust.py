"""What every robust rule must hold to: finite, in the midst of the honest updates, and naming who is far off."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth import robust
from fedsynth.checks.classes import classes as known
from fedsynth.robust import Robust
from tests.contracts.kinds import classes

RULES = classes(robust, Robust)
SHAPES = {"b": (3,), "w": (20, 10), "empty": (0, 2), "scalar": ()}
HONEST = [f"site{i}" for i in range(4)]


@pytest.fixture(params=RULES, ids=lambda c: c.__name__)
def rule(request) -> Robust:
    return request.param()


def update(site: str, seed: int, scale: float = 0.1, weight: float = 1.0) -> tuple:
    rng = np.random.default_rng(seed)
    common = np.random.default_rng(99)  # what all sites learn
    arrays = {n: common.normal(size=shape) + scale * rng.normal(size=shape) for n, shape in SHAPES.items()}
    return site, weight, {n: np.asarray(a, np.float32) for n, a in arrays.items()}


def honest() -> list[tuple]:
    return [update(site, i) for i, site in enumerate(HONEST)]


def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(arrays[n]).astype(np.float64) for n in sorted(arrays)])


def hostile(how) -> tuple:
    return "hostile", 1.0, {n: np.asarray(how(a), np.float32) for n, a in update("hostile", 7)[2].items()}


def test_params_yaml_can_name_it(rule):
    assert f"{type(rule).__module__}.{type(rule).__name__}" in known("robust")


def test_of_honest_updates_it_makes_nearly_the_mean_of_the_same_names_shapes_and_dtype_and_names_nobody(rule):
    change, said = rule.combine(honest())
    assert {n: (a.shape, a.dtype) for n, a in change.items()} == {n: (s, np.float32) for n, s in SHAPES.items()}
    mean = np.mean([flat(d) for _, _, d in honest()], 0)
    assert np.linalg.norm(flat(change) - mean) < 0.05 * np.linalg.norm(mean)
    assert said == {}


def test_equal_updates_come_back_as_they_are(rule):
    same = [(site, 1.0, update("", 0)[2]) for site in HONEST]
    np.testing.assert_allclose(flat(rule.combine(same)[0]), flat(same[0][2]), rtol=1e-6)


def test_nothing_comes_of_nothing(rule):
    nothing = [(site, 1.0, {n: np.zeros(s, np.float32) for n, s in SHAPES.items()}) for site in HONEST]
    change, said = rule.combine(nothing)
    assert not flat(change).any()
    assert said == {}


@settings(max_examples=30)
@given(order=st.permutations(range(5)))
@pytest.mark.parametrize("cls", RULES)
def test_the_order_in_which_updates_arrive_changes_no_bit(cls, order):
    updates = [*honest(), hostile(lambda a: -20 * a)]
    first, second = cls().combine(updates)[0], cls().combine([updates[i] for i in order])[0]
    assert all(first[n].tobytes() == second[n].tobytes() for n in first)


ATTACKS = {
    "sign-flipped and enlarged": lambda a: -10 * a,
    "scaled by 1000": lambda a: 1000 * a,
    "as large as is taken": lambda a: np.full_like(a, 1.8e19),
    "as large as is taken, the other way": lambda a: np.full_like(a, -1.8e19),
    "constant": lambda a: np.full_like(a, 100.0),
}


@pytest.mark.parametrize("how", ATTACKS)
def test_one_hostile_site_of_five_moves_it_by_less_than_half_of_what_the_honest_ones_learn_and_is_named(rule, how):
    learnt = np.mean([flat(d) for _, _, d in honest()], 0)
    change, said = rule.combine([*honest(), hostile(ATTACKS[how])])
    assert np.linalg.norm(flat(change) - learnt) < 0.45 * np.linalg.norm(learnt)
    assert list(said) == ["hostile"]
    assert any(c.isdigit() for c in said["hostile"])
    assert said["hostile"].isprintable()


def test_the_mean_that_it_replaces_is_lost_to_the_same_sites():
    learnt = np.mean([flat(d) for _, _, d in honest()], 0)
    for how in ATTACKS.values():
        mean = np.mean([flat(d) for _, _, d in [*honest(), hostile(how)]], 0)
        assert np.linalg.norm(mean - learnt) > 2 * np.linalg.norm(learnt)


def test_a_site_that_says_it_has_a_billion_images_does_not_own_the_result(rule):
    site, _, arrays = hostile(lambda a: -a)
    learnt = np.mean([flat(d) for _, _, d in honest()], 0)
    change, _ = rule.combine([*honest(), (site, 1e9, arrays)])
    assert flat(change) @ learnt > 0.1 * learnt @ learnt
    assert np.array_equal(rule.combine([*honest(), (site, 1e9, arrays)])[0]["w"],
                          rule.combine([*honest(), (site, 1.0, arrays)])[0]["w"]) != rule.weighs  # fmt: skip


@settings(max_examples=60)
@given(
    scales=st.lists(st.floats(-1.8e19, 1.8e19), min_size=3, max_size=7),
    weights=st.lists(st.floats(1, 1e9), min_size=7, max_size=7),
)
@pytest.mark.parametrize("cls", RULES)
def test_whatever_the_updates_the_result_is_finite_and_no_larger_than_the_largest(cls, scales, weights):
    base = update("", 0)[2]
    largest = max(float(np.abs(a).max()) for a in base.values() if a.size)
    updates = [
        (f"site{i}", w, {n: np.asarray(s / largest * a, np.float32) for n, a in base.items()})
        for i, (s, w) in enumerate(zip(scales, weights, strict=False))
    ]
    change, said = cls().combine(updates)
    assert all(np.isfinite(a).all() for a in change.values())
    assert np.abs(flat(change)).max() <= np.max(np.abs(scales)) * 1.001
    assert said.keys() <= {site for site, _, _ in updates}


def test_three_sites_are_the_fewest_with_which_it_means_anything(rule):
    assert rule.least == 3
    learnt = np.mean([flat(d) for _, _, d in honest()[:2]], 0)
    change, _ = rule.combine([*honest()[:2], hostile(lambda a: 1000 * a)])
    assert np.linalg.norm(flat(change) - learnt) < 0.75 * np.linalg.norm(learnt)


def test_the_server_needs_no_torch_for_any():
    names = [f"{c.__module__}.{c.__name__}" for c in RULES]
    script = f"""
import sys
from fedsynth.params import Block
for name in {names}: Block(class_path=name).build()
print("torch" in sys.modules, "pandas" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
