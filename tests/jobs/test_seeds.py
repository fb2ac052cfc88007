"""A model's own seed travels in its block: the study's params stay as a hospital agreed to them, in every job."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fedsynth.data.dataset import synthetic
from fedsynth.hospital import canaries
from fedsynth.hospital.policy import Policy, PolicyError
from fedsynth.hospital.policy.model import Floors
from fedsynth.params import Params
from fedsynth.stages import sample
from nvflare_jobs.centre.program import public
from nvflare_jobs.score import client
from nvflare_jobs.score import job as scoring
from nvflare_jobs.site.site import Site
from nvflare_jobs.train import job as training
from tests.jobs.gates import gate
from tests.sets import make_set, tiny_params

BLOCK = tiny_params().models["vae"].model_dump(mode="json")
PARAMS = tiny_params(models={"vae": BLOCK, "vae_2": BLOCK | {"seed": 7}}, sample={"images": 12}, audit={"canaries": 20},
                     image={"empty_labels": ["none", "infiltrating", "extra_axial"]})  # fmt: skip
DIGESTS = {"north": "0" * 64}


def site(config: dict[str, Any], **floors: Any) -> Site:
    """A site without FLARE, with what a job has told it."""
    made = Site.__new__(Site)
    made.name = "north"
    made.__dict__.update(config=config, gate=gate(Policy(floors=Floors(trained=False, **floors))))
    return made


def seeded(name: str) -> Params:
    return PARAMS.seeded(PARAMS.models[name].seed)


def scored(name: str, **floors: Any) -> Site:
    about = {"name": name, **PARAMS.models[name].model_dump(mode="json"), "seed": seeded(name).seed}
    return site({"params": public(PARAMS), "name": name, "model": scoring.told(PARAMS, about)}, **floors)


def family(name: str) -> Any:
    torch.manual_seed(0)
    return PARAMS.models[name].family.build(**PARAMS.image.context()).eval()


@pytest.fixture(autouse=True)
def of_a_site(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_STATE", str(tmp_path / "state"))


@pytest.mark.parametrize(("name", "seed"), [("vae", PARAMS.seed), ("vae_2", 7)])
def test_sites_train_and_score_by_the_model_s_seed_and_know_the_study_s(name, seed):
    asked = training.question(PARAMS, name, DIGESTS)
    for of in (site(asked), scored(name)):
        assert of.model_seed == seed
        assert of.params.seed == PARAMS.seed, "what a hospital agreed to"
        assert of.config["model"]["seed"] == PARAMS.models[name].seed


@pytest.mark.parametrize("name", ["vae", "vae_2"])
@pytest.mark.parametrize("again", ["all", "one batch"])
def test_the_set_of_a_model_with_a_seed_of_its_own_is_known_at_the_site(name, again):
    drawn = sample.draw(family(name), seeded(name), name, "abc")
    at = scored(name, drawn=again)
    sent = synthetic(at.params, drawn.images, drawn.labels(PARAMS.image), name, "job")
    client.tied(at, family(name), sent, {}, {})
    other = sample.draw(family(name), PARAMS.model_copy(update={"seed": 99}), name, "abc")
    wrong = synthetic(at.params, other.images, other.labels(PARAMS.image), name, "job")
    with pytest.raises(PolicyError, match="are not those that its model draws"):
        client.tied(at, family(name), wrong, {}, {})


@pytest.mark.parametrize("name", ["vae", "vae_2"])
def test_the_canaries_that_are_looked_for_are_those_that_were_taught(name, tmp_path):
    real = make_set(tmp_path / "set", PARAMS, n=12)
    taught = canaries.among(real, site(training.question(PARAMS, name, DIGESTS)).params, tmp_path / "state", name)
    inside, outside = canaries.of_training(Params.model_validate(public(PARAMS)), tmp_path / "state", name)
    assert len(inside)
    known = set(taught.manifest["sha256"])
    assert set(inside.manifest["sha256"]) <= known
    assert not set(outside.manifest["sha256"]) & known
