"""Every file of fedsynth/measures keeps the contract of its `__init__`: names, counts, the same numbers for a seed, and
few images.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fedsynth import measures
from fedsynth.families.regression import Regression
from fedsynth.measures import Answer, Measure, MeasureInputs, Value
from fedsynth.measures._statistics import plain
from fedsynth.measures.radiomics import installed
from fedsynth.params import Block
from tests.contracts.kinds import classes
from tests.measures.seen import centre, look
from tests.sets import tiny_params

GIVEN = {"size": (16, 16), "given": ["t1"], "aside": ["lesion"]}
CASES = {"2d": {"size": (16, 16)}, "3d": {"size": (8, 8, 8)}, "given": GIVEN}
ON_REQUEST = {"Canaries"}  # have nothing to say where a training had none
ONLY_GIVEN = {"Conversion"}  # have nothing to say where no channel is given
NOT_INSTALLED = set() if installed() else {"Radiomics"}  # have no number without a package
KINDS = classes(measures, Measure)


def build(kind: type[Measure], seen: MeasureInputs) -> Measure:
    return Block(class_path=f"{kind.__module__}.{kind.__name__}").build(**seen.image.context())


def whole(values: dict[str, Value], about: Any) -> bool:
    """Only known names; counts of real images; finite or None, and within their range; an interval has two ends."""
    assert values.keys() == about.keys()
    for name, value in values.items():
        assert isinstance(value.n.get("real"), int)
        assert all(isinstance(n, int) and n >= 0 for n in value.n.values())
        numbers = [v for v in (value.value, value.floor, value.low, value.high) if v is not None]
        assert all(type(v) is float and math.isfinite(v) for v in numbers)
        assert all(about[name].within[0] - 1e-6 <= v <= about[name].within[1] + 1e-6 for v in numbers)
        assert (value.low is None) == (value.high is None)
        assert value.low is None or value.low <= value.high  # type: ignore[operator]
        json.dumps(plain(value), allow_nan=False)
    return True


@pytest.fixture(scope="module", params=CASES.values(), ids=list(CASES))
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MeasureInputs:
    folder, params = tmp_path_factory.mktemp("sets"), tiny_params(image=request.param)
    family = Regression(1, 1, 3, (16, 16), channels=(8, 16)).eval() if params.image.given else None
    return look(folder, params, keep=folder / "keep", family=family)


def test_the_folder_holds_the_measures_of_fidelity() -> None:
    here = {"FID", "KID", "PRDC", "MSSSIM", "Intensity", "Geometry", "MaskAgreement", "ClassAgreement"}
    assert {kind.__name__ for kind in KINDS} >= here


def test_no_two_measures_give_a_number_of_the_same_name(seen: MeasureInputs) -> None:
    numbers = [number for kind in KINDS for number in build(kind, seen).about.items()]
    assert len(numbers) == len(dict(numbers))
    assert all(about.better in ("lower", "higher", "floor") and about.title and about.text for _, about in numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_on_a_small_pair_of_sets(kind: type[Measure], seen: MeasureInputs) -> None:
    measure = build(kind, seen)
    answer = measure.at_site(seen)
    assert whole(answer.values, measure.about)
    combined = measure.combine({"north": answer}, centre(seen))
    assert whole(combined, measure.about)
    cannot = kind.__name__ in {*ON_REQUEST, *NOT_INSTALLED}
    silent = cannot or (kind.__name__ in ONLY_GIVEN and not seen.image.given)
    assert any(v.value is not None for v in combined.values()) != silent
    assert {v.n["real"] for v in combined.values()} == {v.n["real"] for v in answer.values.values()}
    for which, moments in answer.moments.items():
        assert which in ("held_out", "train")
        assert moments.n >= len(moments.mean) == len(moments.covariance), (
            "moments of so few images say too much of each"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_numbers(kind: type[Measure], seen: MeasureInputs) -> None:
    again = MeasureInputs(
        seen.image,
        seen.synthetic,
        seen.extractor,
        seen.networks,
        seen.held_out,
        seen.train,
        seen.family,
        seed=seen.seed,
    )
    measure = build(kind, seen)
    assert measure.at_site(seen).values == measure.at_site(again).values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", [0, 1, 4])
def test_a_handful_of_images_gives_numbers_or_none_and_no_error(
    kind: type[Measure], seen: MeasureInputs, left: int
) -> None:
    def few(which: str) -> Any:
        images = getattr(seen, which)
        return images.where([i < left for i in range(len(images))])

    least = MeasureInputs(
        seen.image, few("synthetic"), seen.extractor, seen.networks, few("held_out"), few("train"), seen.family, seed=1
    )
    measure = build(kind, seen)
    answer = measure.at_site(least)
    assert whole(answer.values, measure.about)
    assert whole(measure.combine({"north": answer, "east": answer}, centre(least)), measure.about)
    if not left:
        assert all(v.value is None for v in answer.values.values())


@pytest.mark.parametrize("kind", KINDS)
def test_without_networks_or_a_model_it_is_none_and_no_error(kind: type[Measure], seen: MeasureInputs) -> None:
    alone = MeasureInputs(seen.image, seen.synthetic, seen.extractor, {}, seen.held_out, seen.train)
    measure = build(kind, seen)
    assert whole(measure.at_site(alone).values, measure.about)


@pytest.mark.parametrize("kind", KINDS)
def test_a_site_without_a_number_leaves_all_of_them_without_one(kind: type[Measure], seen: MeasureInputs) -> None:
    measure = build(kind, seen)
    answer = measure.at_site(seen)
    missing = Answer({name: Value(None, v.n) for name, v in answer.values.items()})
    combined = measure.combine({"north": answer, "east": missing}, centre(seen))
    assert whole(combined, measure.about)
    assert all(v.value is None for v in combined.values())


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_a_mask_channel_are_no_error(kind: type[Measure], tmp_path: Path) -> None:
    params = tiny_params(image={"channels": {"t1": "image"}, "empty_labels": []})
    seen = look(tmp_path, params)
    measure = build(kind, seen)
    assert whole(measure.at_site(seen).values, measure.about)
