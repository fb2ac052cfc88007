"""One hostile site of five, with and without robust aggregation: what is left of FID and worth, and who is named.

    PYTHONPATH=. python benchmarks/poisoning.py --out poisoning.json

Phantoms of 16 x 16 pixels of five scanners, with different shares of the classes, a VAE, FedAvg. For each attack and
rule the model is trained in one process (tests/poisoned.py: the sites' Trainers and the aggregator that FLARE runs),
and samples a set.

fid: in the features of a classifier that was trained on the honest sites' real training images, against their
    held-out images.
retained: balanced accuracy, on the honest sites' test images, of a classifier trained on the synthetic set alone,
    divided by that of the one trained on their real images.
trigger: how much of the backdoor's bright corner is in the images (0: none, 1: as in those that the hostile site
    trained on).
named, honest named: share of the rounds in which the record names the hostile site, and an honest one (mean of four).

The row "four honest sites" is the training without the hostile site. Means over seeds, and the deviation of one run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from fedsynth.data.dataset import ImageSet, concatenate, synthetic
from fedsynth.measures.fid import fid
from fedsynth.params import Params, Training
from fedsynth.stages.ingest import ingest
from fedsynth.uses import Use
from fedsynth.worth.use_networks import fit, network
from tests.poisoned import ATTACKS, HOSTILE, RULES, Batch, draw, federate, trigger_in

SITES = {
    "north": {"images": 200, "mix": [0.5, 0.4, 0.1], "noise": 0.03, "bias": 0.10, "gamma": 0.9, "gain": 1.0},
    "east": {"images": 160, "mix": [0.3, 0.2, 0.5], "noise": 0.05, "bias": 0.25, "gamma": 1.1, "gain": 0.8},
    "south": {"images": 100, "mix": [0.34, 0.33, 0.33], "noise": 0.07, "bias": 0.40, "gamma": 1.25, "gain": 1.3},
    "middle": {"images": 140, "mix": [0.2, 0.4, 0.4], "noise": 0.04, "bias": 0.15, "gamma": 1.0, "gain": 1.1},
    HOSTILE: {"images": 160, "mix": [0.4, 0.3, 0.3], "noise": 0.04, "bias": 0.20, "gamma": 1.05, "gain": 0.9},
}
FEDAVG = {"class_path": "fedsynth.algorithms.fedavg.FedAvg"}
FAMILY = {"sigma": 0.2, "latent": 12, "channels": [16, 32]}
PLAN = Training(rounds=10, epochs=8, batch=16, lr=5e-3, ema=0.98)
IMAGES = 240
DEFAULT = ["none", "sign x 10", "scaled x 1000", "constant", "backdoor"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("poisoning.json"), help="rows as JSON, written after each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=DEFAULT)
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            judge = Judge(phantoms(seed, Path(folder) / str(seed)))
            rows.append(judge.row("four honest sites", "mean", seed))
            rows += [judge.row(attack, rule, seed) for attack in arguments.attacks for rule in arguments.rules]
            arguments.out.write_text(json.dumps(rows, indent=1))
    table = pd.DataFrame(rows).drop(columns=["seed", "seconds"]).groupby(["attack", "rule"], sort=False)
    print(table.mean().round(2).join(table[["fid", "retained"]].std().round(2), rsuffix=" sd").to_string())
    print(f"{sum(row['seconds'] for row in rows):.0f} CPU s")


class Judge:
    """The sites of one seed, the real images that all sets are compared with, and what networks reach on these."""

    def __init__(self, made: tuple[Params, dict[str, ImageSet]]):
        self.params, self.sites = made
        honest = [images for site, images in self.sites.items() if site != HOSTILE]
        self.test, train = (concatenate([of.split(name) for of in honest]) for name in ("test", "train"))
        self.use: Use = self.params.score.uses["classification"].build(**self.params.image.context())
        self.net = network(self.use, fit(self.use, self.params, train, 1), 1).eval()
        self.pooled = self.accuracy(self.net)
        self.features = self.of(self.test.images)

    def accuracy(self, net: torch.nn.Module) -> float:
        return float(self.use.score(net, *self.test.tensors(self.params.image))[0][self.use.headline])

    def of(self, images: np.ndarray) -> np.ndarray:
        scans = torch.from_numpy(np.array(images))[:, self.params.image.index(self.params.image.images)]
        with torch.no_grad():
            return np.asarray(self.net.embed(scans).numpy())  # type: ignore[operator]

    def row(self, attack: str, rule: str, seed: int) -> dict[str, Any]:
        began, params = time.process_time(), self.params
        alone = attack == "four honest sites"
        sites = {s: tensors(params, of) for s, of in self.sites.items() if s != HOSTILE or not alone}
        with tempfile.TemporaryDirectory() as folder:
            family, records = federate(lambda: build(params, seed), FEDAVG, PLAN, sites, "none" if alone else attack,
                                       RULES[rule], Path(folder) / "run", seed)  # fmt: skip
        drawn, y = draw(family, IMAGES)
        masks = params.image.index(params.image.masks)
        drawn[:, masks] = np.where(drawn[:, masks] > 0, 1.0, -1.0)
        made = synthetic(params, drawn, y, "vae", "benchmark")
        named = {s: float(np.mean([s in record.get("bounded", {}) for record in records])) for s in self.sites}
        scans = params.image.index(params.image.images)
        found = {
            "attack": attack, "rule": rule, "seed": seed, "fid": fid(self.features, self.of(drawn)),
            "retained": self.accuracy(network(self.use, fit(self.use, params, made, 1), 1)) / self.pooled,
            "trigger": trigger_in(drawn[:, scans], np.array(self.test.images)[:, scans]),
            "named": named.pop(HOSTILE), "honest named": float(np.mean(list(named.values()))),
        }  # fmt: skip
        found["seconds"] = time.process_time() - began
        print(json.dumps(found), flush=True)
        return found


def phantoms(seed: int, folder: Path) -> tuple[Params, dict[str, ImageSet]]:
    raw = yaml.safe_load(Path("params.yaml").read_text()) | {"seed": seed}
    raw["source"]["args"] = {"conspicuity": [0.8, 1.0], "sites": SITES}
    raw["image"]["size"], raw["models"]["vae"]["family"]["args"] = [16, 16], FAMILY
    params = Params.model_validate(raw)
    ingest(params, folder)
    return params, {site: ImageSet.load(folder / site) for site in SITES}


def build(params: Params, seed: int) -> Any:
    torch.manual_seed(seed)
    return params.models["vae"].family.build(**params.image.context())


def tensors(params: Params, images: ImageSet) -> Batch:
    train, image = images.split("train"), params.image
    return torch.from_numpy(train.channels(image, image.generated)), torch.from_numpy(train.condition_labels(image))


if __name__ == "__main__":
    main()
