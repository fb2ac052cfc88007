"""Conversion: exact on images that are hit, worse the further they are missed, and never about the synthetic set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedsynth.families import Family
from fedsynth.hospital import outgoing
from fedsynth.measures import MeasureInputs
from fedsynth.measures._statistics import plain
from fedsynth.measures.conversion import Conversion
from tests.measures.seen import look, untrained
from tests.sets import tiny_params

GIVEN = {"given": ["t1"], "aside": ["lesion"]}


class Answers(Family):
    """Gives t2 = t1 less `off`: tests make their sets so that 0 is the truth."""

    def __init__(self, off: float = 0.0):
        super().__init__()
        self.off = off

    def players(self):
        return {}

    def loss(self, player, x, y, given):
        raise NotImplementedError

    def sample(self, y, given=None, generator=None):
        return given - self.off


class Finds(nn.Module):
    """Takes for a lesion what is bright in t2, and a bright image for the class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))


class FindsMask(Finds):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 1:] - 0.5) * self.one


class FindsClass(Finds):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lit = (x[:, 1] > 0.5).flatten(1).any(1)
        return nn.functional.one_hot(lit.long(), 3).float() * self.one


@pytest.fixture(params=[(16, 16), (8, 8, 8)], ids=["2d", "3d"])
def seen(request: pytest.FixtureRequest, tmp_path: Path) -> MeasureInputs:
    """t2 is t1, 0.2 to 0.4 of dim noise with the lesion at 0.9; networks that find it."""
    params = tiny_params(image={"size": request.param, **GIVEN})
    found, rng = look(tmp_path, params), np.random.default_rng(0)
    for images in (found.held_out, found.train):
        t2 = np.where(images.images[:, 2] > 0, 0.9, rng.uniform(0.2, 0.4, images.images[:, 2].shape))
        images.images[:, 0] = images.images[:, 1] = t2
    uses = untrained(params)
    found.networks = {
        "kinds": (uses["classification"][0], FindsClass()),
        "lesions": (uses["segmentation"][0], FindsMask()),
    }
    found.family = Answers()
    return found


def of(seen: MeasureInputs, name: str):
    return Conversion().at_site(seen).values[name]


def test_a_model_that_hits_every_image_has_no_error_and_all_of_the_uses_score(seen: MeasureInputs) -> None:
    values = Conversion().at_site(seen).values
    assert values["psnr"].value == pytest.approx(100)
    assert values["ssim"].value == pytest.approx(1)
    assert values["mae"].value == pytest.approx(0, abs=1e-7)
    assert values["converted_dice"].value == values["converted_dice"].floor == pytest.approx(1)
    assert values["converted_accuracy"].value == values["converted_accuracy"].floor


def test_psnr_and_error_are_those_of_the_definition(seen: MeasureInputs) -> None:
    seen.family = Answers(off=0.2)  # of a range of 2: 0.1
    assert of(seen, "mae").value == pytest.approx(0.1, abs=1e-6)
    assert of(seen, "psnr").value == pytest.approx(20, abs=1e-4)
    assert of(seen, "psnr").n == {"real": len(seen.real[0])}


def test_the_further_a_model_misses_the_worse_is_every_number(seen: MeasureInputs) -> None:
    found = []
    for off in (0.0, 0.3, 0.7):
        seen.family = Answers(off)
        found.append({name: v.value for name, v in Conversion().at_site(seen).values.items()})
    for name in ("psnr", "ssim", "converted_dice", "converted_accuracy"):
        assert found[0][name] > found[2][name]
    assert found[0]["mae"] < found[1]["mae"] < found[2]["mae"]


def test_the_floor_is_the_same_for_every_model(seen: MeasureInputs) -> None:
    first = {name: v.floor for name, v in Conversion().at_site(seen).values.items()}
    seen.family = Answers(0.4)
    assert {name: v.floor for name, v in Conversion().at_site(seen).values.items()} == first
    assert first["psnr"] is not None


def test_only_images_with_a_mask_count_for_dice(seen: MeasureInputs) -> None:
    with_mask = int((seen.real[0].manifest["mask_area"] > 0).sum())
    assert of(seen, "converted_dice").n == {"real": with_mask} != {"real": len(seen.real[0])}


def test_nothing_of_the_synthetic_set_is_in_it(seen: MeasureInputs) -> None:
    values = Conversion().at_site(seen).values
    seen.synthetic.images[:] = np.nan
    assert Conversion().at_site(seen).values == values


def test_without_masks_or_with_one_label_there_is_no_such_number() -> None:
    assert set(Conversion(masks=0, labels=1).about) == {"psnr", "ssim", "mae"}


def test_it_leaves_a_site_as_every_measure_does(seen: MeasureInputs) -> None:
    params = tiny_params(
        image={"size": seen.image.size, **GIVEN},
        score={"measures": {"conversion": {"class_path": "fedsynth.measures.conversion.Conversion"}}},
    )
    values = {name: plain(v) for name, v in Conversion().at_site(seen).values.items()}
    values["converted_dice"]["n"] = {"real": 3}
    answer = {"rows": [], "measures": {"conversion": {"values": values, "moments": {}}}}
    left = outgoing.leave("score", answer, outgoing.vocabulary("score", params))["measures"]["conversion"]["values"]
    assert left["psnr"]["value"] == values["psnr"]["value"]
    assert left["converted_dice"]["value"] is None
    assert left["converted_dice"]["n"] == {"real": "< 5"}
