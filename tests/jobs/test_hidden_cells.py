"""Sites that differ in a class with few images alone answer the same, but for what is computed from pixels: a real site
runs each job's client, through the real trainer and the real door.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedsynth.data import manifest as table
from fedsynth.data.dataset import ImageSet, synthetic
from fedsynth.hospital import outgoing
from fedsynth.hospital.secret import SIMULATED
from fedsynth.params import Params
from fedsynth.stages import reference as references
from fedsynth.stages import score as scoring
from fedsynth.worth import use_networks
from nvflare_jobs.centre.asked import Asked
from nvflare_jobs.exchange import client as exchange
from nvflare_jobs.reference import client as reference
from nvflare_jobs.reference import job as reference_job
from nvflare_jobs.score import client as score
from nvflare_jobs.train import client as train
from nvflare_jobs.train import job as training
from tests.jobs import test_site
from tests.jobs.gates import gate
from tests.sets import make_set, passed, tiny_params

VAE = {"class_path": "fedsynth.families.vae.VAE", "args": {"channels": [8, 8], "latent": 2}}
GAN = {"class_path": "fedsynth.families.gan.GAN", "args": {"channels": [4, 8], "width": 4, "depth": 1}}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "private": {"privacy": {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8, "unit": "image"}}},
    "by_subject": {
        "privacy": {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8, "unit": "subject"}}
    },
    "site": {"privacy": {"class_path": "fedsynth.privacy.update.UpdateDP", "args": {"epsilon": 8, "clip": 0.1}}},
    "validated": {
        "algorithm": {"class_path": "fedsynth.algorithms.fedavg.FedAvg", "args": {"weighting": "validation"}}
    },
    "scaffold": {"algorithm": {"class_path": "fedsynth.algorithms.scaffold.Scaffold"}},
    "coded": {"compression": {"up": {"class_path": "fedsynth.compression.quantize.Quantize"}}},
}
HIDDEN = [("train", 1), ("train", 3), ("val", 1), ("test", 2)]  # against 4 images


def params(**score: Any) -> Params:
    """Batches of one image and one epoch: the number of steps is that of the images."""
    plan = {"rounds": 3, "epochs": 1, "batch": 1, "lr": 1e-3}
    models = {name: {"family": VAE, "training": plan} | of for name, of in MODELS.items()}
    models["mdgan"] = {
        "family": GAN, "algorithm": {"class_path": "fedsynth.algorithms.mdgan.MDGAN"}, "training": plan
    }  # fmt: skip
    return tiny_params(models=models, score=score)


PARAMS = params()


@cache
def begun(name: str) -> dict[str, np.ndarray]:
    """With which a training of PARAMS begins."""
    return training.begin(PARAMS, name)


def few(real: ImageSet, split: str, k: int, label: str = "none") -> ImageSet:
    """The set with k images of a class in a split."""
    of_cell = ((real.manifest["label"] == label) & (real.manifest["split"] == split)).to_numpy()
    left = real.where(~of_cell | (np.cumsum(of_cell) <= k))
    return ImageSet(left.manifest.assign(index=np.arange(len(left))), left.images)


def answers(tmp_path, monkeypatch, of: Params, config: dict[str, Any], client: Any, received: list[Any],
            change: tuple[str, int], spoil: Any = lambda real: real, n: int = 60) -> list[Any]:  # fmt: skip
    """All that a site sends whose images are too few in one cell."""
    folder, sent = tmp_path / f"{change[0]}-{change[1]}-{len(list(tmp_path.iterdir()))}", []
    real = spoil(few(make_set(tmp_path / "all", of, "north", n=n), *change))
    table.write(folder / "north", real.manifest, real.images)
    made = test_site.site(folder, "")
    digest = passed(made.state, ImageSet.load(folder / "north"))
    made.params, made.config = of, config | {"digests": {"north": digest}}
    made.tasks, made.gate = lambda: received, gate()
    monkeypatch.setattr("nvflare_jobs.site.site.flare.send", sent.append)
    client(made)
    return sent


def facts(sent: list[Any]) -> list[Any]:
    """What the server can read of messages but the numbers in arrays and losses."""
    return [
        (
            {name: (a.shape, a.dtype.str) for name, a in message.params.items()},
            {name: value for name, value in (message.metrics or {}).items() if not name.startswith("loss/")},
            sorted(message.metrics or {}),
            {key: value for key, value in (message.meta or {}).items() if key != "answer"},
        )
        for message in sent
    ]


@pytest.fixture(autouse=True)
def places(monkeypatch):
    monkeypatch.setenv("FEDSYNTH_DATA", "set")
    monkeypatch.setenv("FEDSYNTH_STATE", "set")
    monkeypatch.setenv(SIMULATED, "1")  # both sites draw the same random numbers


def trained(tmp_path, monkeypatch, name: str, change: tuple[str, int], of: Params | None = None,
            **more: Any) -> list[Any]:  # fmt: skip
    current = training.begin(of, name) if of else begun(name)
    of, received = of or PARAMS, SimpleNamespace(params=current, current_round=0, meta={})
    config = training.question(of, name, {})
    return answers(tmp_path, monkeypatch, of, config, train.work, [received], change, **more)


@pytest.mark.parametrize("name", MODELS)
def test_a_training_looks_the_same_whatever_is_in_a_hidden_cell(tmp_path, monkeypatch, name):
    for split, k in HIDDEN if name == "plain" else [("train", 2)]:
        one, other = (trained(tmp_path, monkeypatch, name, (split, n)) for n in (k, 4))
        assert facts(one) == facts(other)
        assert one[0].metrics["steps"] >= 24  # of the images that are shown
    assert facts(one) != facts(trained(tmp_path, monkeypatch, name, ("train", 6)))  # which is shown


def same_everywhere(real: ImageSet) -> ImageSet:
    """The set with one image in the place of all, so that which ones are drawn makes no difference."""
    images = np.repeat(real.images[:1], len(real), axis=0)
    rows = real.manifest.assign(**{k: real.manifest[k].iloc[0] for k in ("sha256", "mask_sha256")})
    return ImageSet(rows, images)


def test_of_equal_images_all_is_equal_to_the_last_bit_so_nothing_else_is_computed_from_their_number(
    tmp_path, monkeypatch
):
    unlabelled = PARAMS.model_copy(update={"image": PARAMS.image.model_copy(update={"given": ["t1"]})})
    one, other = (
        trained(tmp_path, monkeypatch, "plain", ("train", k), unlabelled, spoil=same_everywhere) for k in (1, 4)
    )
    assert facts(one) == facts(other)
    assert one[0].metrics == other[0].metrics
    assert "loss/autoencoder" in one[0].metrics
    assert all(np.array_equal(one[0].params[name], other[0].params[name]) for name in one[0].params)


@pytest.mark.parametrize("k", [1, 3])
def test_the_federated_reference_looks_the_same(tmp_path, monkeypatch, k):
    small = params(uses={"c": {"class_path": "fedsynth.uses.classification.Classification", "args": {"steps": 4}}},
                   rounds=2)  # fmt: skip
    rounds = [SimpleNamespace(params=references.begin(small), current_round=n, meta={}) for n in range(2)]
    one, other = (
        answers(tmp_path, monkeypatch, small, reference_job.question(small, {}), reference.work, rounds, ("train", n))
        for n in (k, 4)
    )
    assert facts(one) == facts(other)


@pytest.mark.parametrize("k", [1, 3])
def test_a_training_with_the_generator_at_the_centre_looks_the_same(tmp_path, monkeypatch, k):
    config = training.question(PARAMS, "mdgan", {}) | {"steps": 2}
    shape = (2, 1, len(PARAMS.image.channels), *PARAMS.image.size)
    told = []

    def called(site):
        call = exchange.Exchange()
        call._site, call._half, call._feedback = site, exchange.half(site), exchange.Sent()
        for _ in range(2):
            told.append(
                {name: a.shape for name, a in call._step(np.zeros(shape, np.float32), np.zeros((2, 1), int)).items()}
            )
        told.append(call._end_round() | {"losses": None})

    for n in (k, 4):
        answers(tmp_path, monkeypatch, PARAMS, config, called, [], ("train", n))
    assert told[: len(told) // 2] == told[len(told) // 2 :]


def masked(answer: Any) -> Any:
    """An answer with "a number" for each one that is computed from pixels."""
    measured = ("metrics", "value", "floor", "low", "high", "covariance", "mean")
    if isinstance(answer, dict):
        return {k: _number(v) if k in measured else masked(v) for k, v in answer.items()}
    return [masked(v) for v in answer] if isinstance(answer, list) else answer


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _number(v) for k, v in value.items()}
    return [_number(v) for v in value] if isinstance(value, list) else value if value is None else "a number"


MEASURES = {
    name.lower(): {"class_path": f"fedsynth.measures.{module}.{name}"}
    for module, name in [("fid", "FID"), ("kid", "KID"), ("prdc", "PRDC"), ("copies", "Copies"), ("ms_ssim", "MSSSIM"),
                         ("membership", "Membership"), ("geometry", "Geometry"), ("intensity", "Intensity"),
                         ("class_agreement", "ClassAgreement"), ("mask_agreement", "MaskAgreement")]
}  # fmt: skip
USES = {
    "classification": {"class_path": "fedsynth.uses.classification.Classification", "args": {"steps": 3}},
    "segmentation": {"class_path": "fedsynth.uses.segmentation.Segmentation", "args": {"steps": 2}},
}


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> tuple[Params, dict[str, np.ndarray]]:
    """Params with all uses and measures, and the arrays that a score job of `plain` sends to a site."""
    whole = params(uses=USES, measures=MEASURES)
    whole = whole.model_copy(update={"sample": whole.sample.model_copy(update={"images": 40})})
    drawn = make_set(tmp_path_factory.mktemp("drawn"), whole, "drawn", n=40)
    made = synthetic(whole, drawn.images, drawn.labels(whole.image), "plain", "1")
    nets = {f"net/federated/{key}": a for key, a in references.begin(whole).items()}
    nets |= {
        f"net/{key}": a for key, a in use_networks.to_arrays(scoring.fit_synthetic(whole, made), "synthetic").items()
    }
    sent = {f"model/{key}": a for key, a in begun("plain").items()}
    return whole, nets | sent | {"set/images": made.images, "set/labels": made.labels(whole.image)}


@pytest.mark.parametrize(("split", "k"), [("train", 3), ("val", 2), ("test", 2), ("test", 3)])
def test_what_is_scored_has_the_same_form_and_counts_and_passes_the_same_door_at_the_centre(
    tmp_path, monkeypatch, scored, split, k
):
    monkeypatch.setattr(score, "tied", lambda *_: None)  # whether the set is of a training: tests/stages/test_tied.py
    whole, task = scored[0], SimpleNamespace(params=scored[1])
    model = {"name": "plain"} | whole.models["plain"].model_dump(mode="json")
    config = {"params": {}, "name": "plain", "model": model}
    found = [
        answers(tmp_path, monkeypatch, whole, config, score.work, [task], (split, few_), n=90)[0].meta["answer"]
        for few_ in (k, 4)
    ]
    assert masked(found[0]) == masked(found[1])
    assert found[0]["seconds"] is None
    real = few(make_set(tmp_path / "all", whole, "north", n=90), split, k)
    shown = outgoing.shown(real.manifest, whole.image.labels, 5)
    asked = Asked("score", whole, "plain", frozenset({"federated"}), {"north": shown})
    assert asked.hold("north", found[0]) == found[0]
