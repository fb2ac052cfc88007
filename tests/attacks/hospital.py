"""A hospital under attack: the real `Site` with its door, driven in process; only FLARE's wire is replaced by lists."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet
from fedsynth.hospital import policy, secret
from fedsynth.hospital.policy import Policy, words
from fedsynth.hospital.policy.model import Floors, Often, Study
from fedsynth.hospital.policy.study import agreed
from fedsynth.params import Params
from fedsynth.settings import Settings
from fedsynth.stages import reference
from fedsynth.stages.ingest import ingest
from nvflare_jobs.reference import client as reference_client
from nvflare_jobs.reference import job as referring
from nvflare_jobs.site.site import Site
from nvflare_jobs.train import client
from nvflare_jobs.train import job as training

Arrays = dict[str, np.ndarray]
NAME, FLAT = (
    "north",
    {"percentiles": [0, 100], "of": "image"},
)  # of each image: -1 is its darkest value, 1 its brightest


def study(seed: int = 1, images: int = 160, size: int = 32, **changes: Any) -> Params:
    """Params like params.yaml's, of phantoms: two modalities and a mask, the site `north` and the centre's `public`."""
    sites = {NAME: {"images": images}, "public": {"images": 120}}
    said = {
        "seed": seed,
        "source": {"class_path": "fedsynth.sources.phantom.Phantom", "args": {"sites": sites}},
        "image": {
            "size": [size, size],
            "channels": {"t1": "image", "t2": "image", "lesion": "mask"},
            "labels": ["none", "infiltrating", "extra_axial"],
            "empty_labels": ["none"],
            "scale": FLAT,
        },
        "split": {"val": 0.1, "test": 0.3},
        "models": {"vae": {"family": {"class_path": "fedsynth.families.vae.VAE"}, "training": {"rounds": 1}}},
        "sample": {"images": 12},
        "score": {"uses": {"classification": {"class_path": "fedsynth.uses.classification.Classification"}}},
    }
    return Params.model_validate(said | changes)


def with_model(params: Params, family: str, args: dict[str, Any], privacy: Any = None, **of_training: Any) -> Params:
    """The study whose only model is `attacked`: what a hostile centre asks for."""
    block = {"class_path": f"fedsynth.families.{family}", "args": args}
    model = {"family": block, "training": of_training, "privacy": privacy}
    return Params.model_validate(params.model_dump(mode="json") | {"models": {"attacked": model}})


def no_policy() -> Policy:
    """What a job's client asks of the policy refuses nothing: as a hospital was before there were policies."""
    return Policy(floors=Floors(start=False, moved=None, drawn="no", trained=False, first_layer=1.0), copies="numbers")


def floors_only() -> Policy:
    """The default policy of a hospital that has agreed to no study."""
    return Policy(a_day=Often(train=10**6, score=10**6))


def of_study(params: Params) -> Policy:
    """The default policy of a hospital that has agreed to a study, as `fedsynth policy init` makes it."""
    return Policy(studies={"study": Study(params=agreed(params))}, a_day=Often(train=10**6, score=10**6))


class Hospital(Site):
    """The site `north` with its images and its policy in `folder`; `sent` are all messages that have left it."""

    def __init__(self, folder: Path, params: Params, held: Policy | None):
        self.folder, self.name, self.sent, self.held = folder, NAME, [], held
        with contextlib.redirect_stdout(io.StringIO()):
            ingest(params, folder / "data")
        self.settings = Settings("simulator", folder, folder / "data", folder / "state", 60, False)  # type: ignore[misc]
        self.real, self.public = (ImageSet.load(folder / "data" / site) for site in (NAME, "public"))
        path = folder / "state" / NAME / policy.FILE
        path.parent.mkdir(parents=True)
        known = hashlib.sha256(b"%d" % params.seed).digest()  # so that a run can be repeated; the attacks do not use it
        path.with_name(secret.FILE).write_bytes(known)
        path.write_text(words.text(held or no_policy(), "under attack"), encoding="utf-8")

    def tasks(self) -> Iterator[Any]:
        for task in self.asked:
            self._received = task
            self.gate.unpaused()
            yield task

    def ask(self, work: Any, job: str, params: Params, config: dict[str, Any], tasks: Iterable[Any]) -> list[Any]:
        """Run a job as `main` of nvflare_jobs/site/site.py does: returns the messages (FLModel) that left for it.

        Raises PolicyError where the hospital refuses; main would send one word for it.
        """
        for known in ("config", "gate"):
            self.__dict__.pop(known, None)
        asked = iter(tasks)
        first = next(asked)
        self.__dict__ |= {
            "job": job,
            "config": config,
            "params": params,
            "asked": chain([first], asked),
            "_received": first,
        }
        places = {"FEDSYNTH_DATA": str(self.folder / "data"), "FEDSYNTH_STATE": str(self.folder / "state")}
        before = len(self.sent)
        with mock.patch.dict(os.environ, places), mock.patch("nvflare_jobs.site.site.flare.send", self.sent.append):
            kept = self.admit() if self.held else None
            work(self) if kept is None else self.repeat(kept)
        return self.sent[before:]

    def train(
        self, params: Params, sent: Iterable[Arrays], numbers: Iterable[int] | None = None, key: str = ""
    ) -> list[Arrays]:
        """Returns what the site answers to each round's arrays, which may depend on the answers before.

        `numbers`: of the rounds, and `key`: of the training, as the centre says them; 0, 1, … and the training's own if
        there are none.
        """
        config = training.question(params, "attacked", self.digests)
        config |= {"key": key} if key else {}
        tasks = (
            SimpleNamespace(current_round=n, params=arrays, meta={})
            for n, arrays in zip(numbers or count(), sent, strict=False)
        )
        with contextlib.redirect_stdout(io.StringIO()):
            return [message.params for message in self.ask(client.work, "train", params, config, tasks)]

    def refer(self, params: Params) -> Arrays:
        """Returns the `federated` networks after an honest round of the reference, by use, seed and parameter."""
        begin = reference.begin(params)
        config = referring.question(params, self.digests)
        task = SimpleNamespace(current_round=0, params=begin, meta={})
        with contextlib.redirect_stdout(io.StringIO()):
            (message,) = self.ask(reference_client.work, "reference", params, config, [task])
        return {name: begin[name] + message.params[name] for name in begin}

    @property
    def digests(self) -> dict[str, str]:
        """What validation has told the centre."""
        return {NAME: secret.keyed(self.folder / "state" / NAME, manifest.digest(self.real.manifest))}

    @property
    def train_images(self) -> np.ndarray:
        return np.asarray(self.real.split("train").images)


@contextlib.contextmanager
def hospital(params: Params, held: Policy | None = None) -> Iterator[Hospital]:
    """A hospital with the study's images; `held` is its policy, none by default."""
    with tempfile.TemporaryDirectory() as folder:
        yield Hospital(Path(folder), params, held)
