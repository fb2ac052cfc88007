"""Trains families on images that cost no patient anything, at the centre: weights that trainings at sites begin with.

Models that ask for the same (`models.<name>.pretrain`) with the same family share one training.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedsynth.data import outputs
from fedsynth.params import Block, Params, Training
from fedsynth.params.family_defaults import training_defaults
from fedsynth.params.start import Pretrain
from fedsynth.registry.starts import FOLDER
from fedsynth.stages import code, public
from fedsynth.training import weights

ABOUT = "about.json"
ROUNDS = 10  # in which the steps are taken, so that each phase of a family has its share
KEPT = Path(".work") / "pretrained"


def pretrain(params: Params, root: Path) -> None:
    """Write <model>.json for every model: {}, or which weights of the folder its training begins with.

    Weights that were made before, of all the same, are kept beside and taken again: DVC empties the folder.
    """
    folder, groups = root / FOLDER, dict[str, dict[str, Any]]()
    for name, model in params.models.items():
        about: dict[str, Any] = {}
        if (said := model.pretrain) is not None:
            key = group(params, model.family, said, root)
            if key not in groups:
                groups[key] = _made(params, model.family, said, root / KEPT / key, root)
                (folder / key).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / KEPT / key / weights.FILE, folder / key / weights.FILE)
            about = {"file": f"{key}/{weights.FILE}"} | groups[key]
        outputs.write(folder / f"{name}.json", about)
    for path in (root / KEPT).glob("*"):
        if path.name not in groups:
            shutil.rmtree(path)


def group(params: Params, family: Block, said: Pretrain, root: Path) -> str:
    """Return the name of a pretraining: a digest of its values and its code."""
    source = source_of(params, said)
    raw = params.model_dump(mode="json")
    of = {key: raw[key] for key in ("seed", "image")} | {
        "family": family.model_dump(mode="json"),
        "pretrain": said.model_dump(mode="json"),
        "source": source.model_dump(mode="json"),
        "code": code.digests([__name__], [family.class_path, source.class_path], root),
    }
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]


def source_of(params: Params, said: Pretrain) -> Block:
    """Return the source of the images, that of the reference `public` unless there is one of its own."""
    source = said.source or params.score.public
    assert source is not None, "params.yaml has been checked"
    return source


def training(family: Block, said: Pretrain) -> Training:
    """Return how a family is pretrained: as it is best trained (`Family.defaults`), for so many steps."""
    steps = {"rounds": ROUNDS, "local_steps": math.ceil(said.steps / ROUNDS), "batch": said.batch}
    return Training.model_validate(training_defaults(family.class_path) | steps)


def _made(params: Params, family: Block, said: Pretrain, kept: Path, root: Path) -> dict[str, Any]:
    if (kept / ABOUT).is_file() and (kept / weights.FILE).is_file():
        about: dict[str, Any] = outputs.read(kept / ABOUT, "pretrain")
        if weights.sha256(kept / weights.FILE) == about["sha256"]:
            return about
    from fedsynth.training.alone import train_alone

    source = source_of(params, said)
    score = params.score.model_copy(update={"public": source})
    with TemporaryDirectory(dir=root) as folder:
        sites = params.consortium.sites or ()
        images = public.ingested(params.model_copy(update={"score": score}), sites, Path(folder))
        how = training(family, said)
        made = train_alone(family, how, params.image, images, params.seed, "pretraining")
    weights.save(kept / weights.FILE, {n: p.detach().cpu().numpy() for n, p in made.named_parameters()})
    about = {
        "from": f"a pretraining on {len(images)} images of {source.class_path.rpartition('.')[2]},"
        f" {how.rounds * how.steps(len(images))} steps of each player",
        "sha256": weights.sha256(kept / weights.FILE),
    }
    outputs.write(kept / ABOUT, about)
    return about
