"""What every coding must hold to: a closed and smaller form, a contraction, and that error feedback makes up for what
it leaves out.
"""

from __future__ import annotations

import numpy as np
import pytest

from fedsynth import compression
from fedsynth.compression import CodingError, Compression
from fedsynth.training import coding
from tests.contracts.kinds import classes

CODINGS = classes(compression, Compression)
SIZES = [700, 1, 32, 256, 257]


@pytest.fixture(params=CODINGS, ids=lambda c: c.__name__)
def made(request) -> Compression:
    return request.param()


def vector(seed: int = 0, scale: float = 0.01) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_t(4, sum(SIZES))).astype(np.float32)


def named(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "b": rng.normal(size=(30, 40)).astype(np.float32),
        "a.w": rng.normal(size=7).astype(np.float32),
        "c": np.float32(1).reshape(()),
    }


def test_what_is_coded_has_the_form_that_was_said_and_fewer_bytes_whatever_it_holds(made):
    form = made.form(SIZES)
    for x in (vector(), np.zeros(sum(SIZES), np.float32), np.full(sum(SIZES), 1e30, np.float32), vector(scale=1e-30)):
        coded = made.encode(x, SIZES)
        assert {name: (a.dtype, a.shape) for name, a in coded.items()} == {
            name: (dtype, (n,)) for name, (dtype, n) in form.items()
        }
        assert np.isfinite(made.decode(coded, SIZES)).all()
    assert sum(dtype.itemsize * n for dtype, n in form.values()) <= 0.51 * 4 * sum(SIZES)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_a_contraction(made, seed):
    x = vector(seed)
    left = x - made.decode(made.encode(x, SIZES), SIZES)
    assert np.linalg.norm(left) < 0.99 * np.linalg.norm(x)


def test_nothing_comes_back_of_nothing_and_a_multiple_of_a_multiple(made):
    x = vector()
    assert not made.decode(made.encode(0 * x, SIZES), SIZES).any()
    once, four = (made.decode(made.encode(k * x, SIZES), SIZES) for k in (1, 4))
    np.testing.assert_allclose(four, 4 * once, rtol=1e-4, atol=1e-4 * np.abs(x).max())


def test_the_same_vector_gives_the_same_bits(made):
    first, second = (made.encode(vector(), SIZES) for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_with_error_feedback_the_sum_of_what_arrives_stays_as_near_to_the_sum_of_what_was_meant_as_after_one_round(
    made,
):
    link, meant, arrived, off = coding.Uplink(made), 0.0, 0.0, []
    for number in range(40):
        difference = {"w": vector(number)}
        coded, by = link.encode(difference, last=False)
        meant, arrived = meant + difference["w"], arrived + coding.decode(by, coded, {"w": difference["w"].shape})["w"]
        np.testing.assert_allclose(meant - arrived, link.rest["w"], atol=1e-4)
        off.append(np.linalg.norm(meant - arrived))
    assert np.mean(off[20:]) < 0.8 * np.linalg.norm(meant)
    assert np.mean(off[30:]) < 1.3 * np.mean(off[20:30])  # it does not grow


@pytest.mark.parametrize("spoil", ["missing", "more", "longer", "type", "nan", "python"])
def test_what_is_not_of_the_form_is_refused(made, spoil):
    coded = coding.encode(made, named())
    shapes = {name: a.shape for name, a in named().items()}
    first = next(iter(coded))
    if spoil == "missing":
        del coded[first]
    elif spoil == "more":
        coded["pixels"] = np.zeros(3, np.uint8)
    elif spoil == "longer":
        coded[first] = np.concatenate([coded[first], coded[first][:1]])
    elif spoil == "type":
        coded[first] = coded[first].astype(np.float64)
    elif spoil == "python":
        coded[first] = coded[first].tolist()
    else:
        floating = [name for name, a in coded.items() if np.issubdtype(a.dtype, np.floating)]
        coded[floating[-1]] = np.full_like(coded[floating[-1]], np.nan)
    with pytest.raises(CodingError, match="the coded"):
        coding.decode(made, coded, shapes)


@pytest.mark.parametrize("seed", range(20))
def test_chance_bytes_of_the_right_form_give_an_array_or_an_error_that_says_so(made, seed):
    rng = np.random.default_rng(seed)
    shapes = {name: a.shape for name, a in named().items()}
    form = made.form([int(np.prod(shapes[name])) for name in sorted(shapes)])
    chance = {name: np.frombuffer(rng.bytes(n * dtype.itemsize), dtype) for name, (dtype, n) in form.items()}
    try:
        found = coding.decode(made, chance, shapes)
    except CodingError:
        return
    assert {name: a.shape for name, a in found.items()} == shapes
