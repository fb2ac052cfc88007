"""Noise, a checkerboard and a slight blur do not pass: the federated classifier's few features see none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.measures import MeasureInputs
from fedsynth.measures.frozen import Frozen
from fedsynth.measures.spectrum import Spectrum
from fedsynth.measures.texture import Texture
from fedsynth.params import Params, load
from fedsynth.params.gates import parse
from fedsynth.stages.ingest import ingest_site
from fedsynth.worth.gates import Known, evaluate
from tests.measures.phantoms import phantoms
from tests.measures.seen import Blocks
from tests.realdata import real as real_data
from tests.sets import tiny_params

ROOT = Path(__file__).parents[2]
SIZE = 32
NUMBERS = ("frozen_fid", "texture_distance", "spectrum_distance")
DAMAGES = ("noise", "checkerboard", "blur")
LIMIT = 3.0  # times the floor, as the gates of params.yaml have it


def damaged(images: ImageSet, planes: int, damage: str) -> ImageSet:
    """The set with something done to its image channels, which come first."""
    out, rng = np.array(images.images), np.random.default_rng(0)
    some = out[:, :planes]
    out[:, :planes] = {
        "none": lambda: some,
        "noise": lambda: some + 0.1 * rng.normal(size=some.shape),
        "checkerboard": lambda: some + 0.1 * (np.indices(some.shape[2:]).sum(0) % 2 * 2 - 1),
        "blur": lambda: gaussian_filter(some, (0, 0, 0.7, 0.7)),
    }[damage]().clip(-1, 1)
    return ImageSet(images.manifest, out)


def ratios(params: Params, real: ImageSet, damage: str, other: ImageSet | None = None) -> dict[str, float]:
    """Each number over its floor: a part of the real images is held out, another one trains, and a third, or `other`,
    is in the place of the synthetic ones.
    """
    third = np.unique(real.patients(), return_inverse=True)[1] % 3
    held_out, train, made = (real.where(third == k) for k in range(3))
    changed = damaged(made if other is None else other, len(params.image.originals), damage)
    seen = MeasureInputs(params.image, changed, Blocks(), held_out=held_out, train=train, seed=1)
    values = Frozen().at_site(seen).values | Texture().at_site(seen).values | Spectrum().at_site(seen).values
    return {name: values[name].value / values[name].floor for name in NUMBERS}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, ImageSet]:
    params = tiny_params(image={"size": [SIZE, SIZE]})
    return params, phantoms(tmp_path_factory.mktemp("phantoms"), 210, size=SIZE)


@pytest.fixture(scope="module")
def busi(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, ImageSet]:
    folder = tmp_path_factory.mktemp("busi")
    params = tiny_params(
        source={"class_path": "fedsynth.sources.table.Table",
                "args": {"folder": str(real_data("busi")), "partition": {"kind": "iid", "sites": ["north"]}}},
        image={"size": [64, 64], "channels": {"us": "image", "lesion": "mask"}, "given": [], "may_lack": [],
               "labels": ["normal", "benign", "malignant"], "empty_labels": ["normal"]},
    )  # fmt: skip
    ingest_site(params, params.source.build(image=params.image, seed=1), "north", folder)
    whole = ImageSet.load(folder / "north")
    return params, whole.where(whole.manifest["problem"] == "")


@pytest.mark.parametrize("images", ["phantom", "busi"])
def test_other_real_images_pass_and_damaged_ones_do_not(images: str, request: pytest.FixtureRequest) -> None:
    params, real = request.getfixturevalue(images)
    assert max(ratios(params, real, "none").values()) <= LIMIT
    for damage in DAMAGES:
        found = ratios(params, real, damage)
        assert found["frozen_fid"] > LIMIT, (damage, found)
        assert max(found["texture_distance"], found["spectrum_distance"]) > LIMIT, (damage, found)


@pytest.mark.parametrize("damage", ["none", *DAMAGES])
def test_the_gates_of_params_yaml_see_each_damage(phantom: tuple[Params, ImageSet], damage: str) -> None:
    params, real = phantom
    third = np.unique(real.patients(), return_inverse=True)[1] % 3
    held_out, train, made = (real.where(third == k) for k in range(3))
    changed = damaged(made, len(params.image.originals), damage)
    seen = MeasureInputs(params.image, changed, Blocks(), held_out=held_out, train=train, seed=1)
    values = Texture().at_site(seen).values | Spectrum().at_site(seen).values
    asked = [text for text in load(ROOT / "params.yaml").gates.warn if parse(text).name in values]
    assert len(asked) == 2
    found = evaluate({"warn": asked}, Known({name: value.value for name, value in values.items()}))
    assert any(not gate["held"] for gate in found["gates"]) == (damage != "none"), found["gates"]


def test_floors_do_not_hang_on_the_networks_of_a_run(phantom: tuple[Params, ImageSet]) -> None:
    params, real = phantom
    half = np.unique(real.patients(), return_inverse=True)[1] % 2 == 0
    sets = {"held_out": real.where(half), "train": real.where(~half)}
    made = concatenate([real.where(~half)])
    one, other = (Frozen().at_site(MeasureInputs(params.image, made, space, **sets, seed=1)).values
                  for space in (Blocks(), Blocks()))  # fmt: skip
    assert {k: v.floor for k, v in one.items()} == {k: v.floor for k, v in other.items()}
