"""A pretraining on public images: one for all that ask for the same, made once, and what a training begins with."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest

from fedsynth.checks import problems
from fedsynth.params import Params
from fedsynth.registry.starts import FOLDER, begun
from fedsynth.settings import Settings
from fedsynth.stages import inputs, pretrain
from fedsynth.training import weights
from tests.sets import tiny_params
from tests.test_architecture import ROOT

BLOCK = tiny_params().models["vae"].model_dump(mode="json")
GAN = BLOCK | {"family": {"class_path": "fedsynth.families.gan.GAN"}}
PUBLIC = {"class_path": "fedsynth.sources.procedural.Procedural", "args": {"images": 30}}


def study(public: Any = PUBLIC, **models: Any) -> Params:
    return tiny_params(models=models, score={"public": public})


def made(tmp_path, params):
    folder = tmp_path / FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # as DVC does
    pretrain.pretrain(params, tmp_path)
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in params.models}


FEW = {"pretrain": {"steps": 20, "batch": 8}}


def test_models_that_ask_for_the_same_share_one_training_and_others_begin_with_nothing(tmp_path, capsys):
    params = study(vae=BLOCK | FEW, vae_2=BLOCK | FEW | {"seed": 7}, plain=BLOCK)
    about = made(tmp_path, params)
    assert about["vae"] == about["vae_2"]
    assert about["plain"] == {}
    assert about["vae"]["from"].startswith("a pretraining on 90 images of Procedural, 20 steps")
    assert capsys.readouterr().out.count("pretraining: round 10 of 10") == 1
    found = begun(tmp_path, params, "vae", None)
    assert found.about["trained_on"] == ["public"]
    assert found.about["sha256"] == weights.sha256(tmp_path / FOLDER / about["vae"]["file"])
    family = params.models["vae"].family.build(**params.image.context())
    assert found.arrays.keys() == {name for name, _ in family.named_parameters()}
    assert begun(tmp_path, params, "plain", None) is None


def test_what_is_there_is_not_trained_again_and_what_is_asked_for_no_more_goes(tmp_path, capsys):
    params = study(vae=BLOCK | FEW)
    before = made(tmp_path, params)
    capsys.readouterr()
    assert made(tmp_path, study(vae=BLOCK | FEW | {"training": {"rounds": 9, "batch": 8}})) == before
    assert "pretraining" not in capsys.readouterr().out
    other = made(tmp_path, study(gan=GAN | FEW))
    assert other["gan"]["sha256"] != before["vae"]["sha256"]
    assert sorted(path.name for path in (tmp_path / FOLDER).glob("*.json")) == ["gan.json"]
    assert not list((tmp_path / pretrain.KEPT).glob(before["vae"]["file"].partition("/")[0]))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".work", "data"]


def test_the_same_seed_gives_the_same_weights_and_a_damaged_file_is_made_again(tmp_path):
    params = study(vae=BLOCK | FEW)
    before = made(tmp_path, params)["vae"]
    weights.save(tmp_path / pretrain.KEPT / before["file"], {"w": np.zeros(1, np.float32)})
    assert made(tmp_path, params)["vae"] == before
    assert weights.sha256(tmp_path / FOLDER / before["file"]) == before["sha256"]


def test_a_source_of_its_own_takes_the_place_of_the_public_one(tmp_path):
    own = {"pretrain": FEW["pretrain"] | {"source": PUBLIC | {"args": {"images": 33}}}}
    about = made(tmp_path, study(None, vae=BLOCK | own))
    assert "on 99 images of Procedural" in about["vae"]["from"]


def test_a_volume_is_pretrained_too(tmp_path):
    params = tiny_params(models={"vae": BLOCK | FEW}, image={"size": [8, 8, 8]}, score={"public": PUBLIC})
    assert made(tmp_path, params)["vae"]["sha256"]


def test_without_public_images_there_is_nothing_to_pretrain_on():
    found = problems(study(None, vae=BLOCK | FEW), source=False)
    assert [p.key for p in found] == ["models.vae.pretrain"]
    assert "name their `source` here, or in score.public" in str(found[0])


def texts(params: Params, monkeypatch, tmp_path) -> dict[str, str]:
    monkeypatch.setenv("FEDSYNTH_ROOT", str(tmp_path))
    raw, where = params.model_dump(mode="json"), Settings.read()
    return {of.address: inputs.text(inputs.of_stage(of, raw, where)) for of in inputs.stages(ROOT, raw["models"])}


def test_the_stage_is_stale_for_what_it_is_made_of_alone(monkeypatch, tmp_path):
    one = texts(study(vae=BLOCK | FEW, gan=GAN), monkeypatch, tmp_path)
    for models, stale in [
        ({"vae": BLOCK | FEW | {"training": {"rounds": 3}}, "gan": GAN}, False),
        ({"vae": BLOCK | FEW, "gan": GAN | {"family": GAN["family"] | {"args": {"width": 8}}}}, False),
        ({"vae": BLOCK | {"pretrain": {"steps": 30}}, "gan": GAN}, True),
        ({"vae": BLOCK | FEW, "gan": GAN | FEW}, True),
        ({"vae": BLOCK | FEW, "gan": GAN, "one_more": GAN}, True),  # whose training depends on a file of the stage
    ]:
        other = texts(study(**models), monkeypatch, tmp_path)
        assert (other["pretrain"] != one["pretrain"]) is stale, models


@pytest.mark.parametrize("stage", ["train@vae", "train@gan"])
def test_a_training_depends_on_its_own_file_of_the_stage(stage):
    (of,) = [of for of in inputs.stages(ROOT, ["vae", "gan"]) if of.address == stage]
    assert f"data/pretrained/{stage[6:]}.json" in of.deps
