"""Every model of every params file of the project: one short round at two sites, and images from what comes of it."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsynth import params as config
from fedsynth.params import Params
from fedsynth.privacy import he
from fedsynth.privacy.he import CKKS
from fedsynth.training import weights
from fedsynth.training.central_generator import Discriminating, Generating
from fedsynth.training.trainer import Trainer
from nvflare_jobs.train import job

EXAMPLES = Path(__file__).parents[2] / "fedsynth/study/examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
CASES = [(file, name) for file in FILES for name in config.load(file).models]
N = 6

Arrays = dict[str, np.ndarray]


def tiny(params: Params, name: str) -> config.Model:
    model = params.models[name]
    return model.model_copy(update={"training": model.training.model_copy(update={"epochs": 0.5, "batch": 3})})


def images(params: Params, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    image, generator = params.image, torch.Generator().manual_seed(seed)
    x, given = (
        torch.rand((N, len(names), *image.size), generator=generator) * 2 - 1
        for names in (image.generated, image.given)
    )
    return x, torch.arange(N) % len(image.labels), given if image.given else None


@pytest.mark.parametrize(("file", "name"), CASES, ids=[f"{file.stem}-{name}" for file, name in CASES])
def test_a_model_takes_a_round_and_draws(file, name):
    params = config.load(file)
    model, sent = tiny(params, name), job.begin(params, name)
    arrays = {"train": trained, "exchange": exchanged}[model.algorithm.build().job](params, model, sent)
    shares = {site: [1] * len(params.image.labels) for site in "ab"}
    about = {
        "name": name,
        "image": params.image.model_dump(mode="json"),
        "mixture": shares,
        **model.model_dump(mode="json"),
    }
    _, y, given = images(params, 9)
    drawn = weights.build_family(about, arrays).sample(
        y[:2], None if given is None else given[:2], torch.Generator().manual_seed(0)
    )
    assert drawn.shape == (2, len(params.image.generated), *params.image.size)
    assert drawn.isfinite().all()


@pytest.mark.parametrize(
    "line", re.findall(r"^# .*?(-S .*)$", (EXAMPLES / "reconstruct.yaml").read_text(), re.MULTILINE)
)
def test_the_other_operators_are_what_the_head_of_the_file_says(line, tmp_path):
    dvc = pytest.importorskip("dvc.utils.hydra", reason="DVC comes with the extra `centre`")
    file = tmp_path / "params.yaml"
    file.write_text((EXAMPLES / "reconstruct.yaml").read_text())
    dvc.apply_overrides(file, [word for word in shlex.split(line) if word != "-S"])
    (before,), (after,) = (config.load(of).image.derived.values() for of in (EXAMPLES / "reconstruct.yaml", file))
    assert after.operator.build()
    assert after.operator != before.operator


def trained(params: Params, model: config.Model, sent: Arrays) -> Arrays:
    """What the centre has after a round of local training."""
    algorithm = model.algorithm.build()
    updates = []
    for number, site in enumerate(("a", "b")):
        torch.manual_seed(number)
        family, privacy = model.family.build(**params.image.context()), model.privacy.build() if model.privacy else None
        trainer = Trainer(
            family,
            model.algorithm.build(),
            model.training,
            *images(params, number),
            seed=number,
            privacy=privacy,
            subjects=torch.arange(N) // 2,
        )
        update = trainer.round({n: sent[n] for n in algorithm.arrays_sent(list(sent), model.training.rounds == 1)}, 0)
        assert all(math.isfinite(loss) for loss in update.losses.values())
        updates.append((site, update.weight, update.difference))
    if model.encryption:
        updates = encrypted(model.encryption.build(), updates)
    algorithm.before_aggregate(lambda: model.family.build(**params.image.context()), sent, {})
    change = algorithm.aggregate(updates)
    assert any(np.abs(a).max() > 0 for a in change.values())
    return {n: a + change[n] if n in change else a for n, a in sent.items() if ":" not in n} | algorithm.extra_arrays(
        sent, updates
    )


def encrypted(cipher: CKKS, updates: list[tuple[str, float, Arrays]]) -> list[tuple[str, float, Arrays]]:
    """Each site's update as the mean of all, which is what the server learns of them."""
    pytest.importorskip("tenseal", reason="encryption needs the extra `he`: pip install -e '.[he]'")
    secret, public = he.make()
    total = cipher.open(cipher.add([cipher.encrypt(a, weight, secret) for _, weight, a in updates], public), secret)
    shapes = {n: a.shape for n, a in updates[0][2].items()}
    mean = cipher.shaped(total / sum(weight for _, weight, _ in updates), shapes)
    return [(site, weight, mean) for site, weight, _ in updates]


def exchanged(params: Params, model: config.Model, sent: Arrays) -> Arrays:
    """What the centre has after a step of a generator that is there."""
    family, equal = (
        model.family.build(**params.image.context()),
        {site: [1.0] * len(params.image.labels) for site in "ab"},
    )
    family.load_state_dict({n: torch.from_numpy(a) for n, a in sent.items()}, strict=False)
    centre = Generating(family, model.training, 1, 0, dict.fromkeys("ab", 1.0), equal)
    feedback = {}
    for number, (site, batch) in enumerate(centre.draw().items()):
        x, y, _ = images(params, number)
        half = Discriminating(model.family.build(**params.image.context()), model.training, 1, number, x, y)
        feedback[site] = half.step(*batch)
        assert all(math.isfinite(loss) for loss in half.means().values())
    centre.learn(feedback)
    assert any(not np.array_equal(a, sent[n]) for n, a in centre.arrays().items())
    return centre.arrays()
