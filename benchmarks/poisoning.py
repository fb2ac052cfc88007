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
import itertools
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from evidence import Claim, leave, measured, over_seeds

from fedsynth.data.dataset import ImageSet, concatenate, synthetic
from fedsynth.measures.fid import fid
from fedsynth.params import Params, Training
from fedsynth.stages.ingest import ingest
from fedsynth.training.alone import tensors
from fedsynth.uses import Use
from fedsynth.worth.use_networks import fit, network
from tests.poisoned import ATTACKS, HOSTILE, RULES, draw, federate, trigger_in

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
ALONE = "four honest sites"
DEFAULT = ["none", "sign x 10", "scaled x 1000", "constant", "backdoor"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=DEFAULT)
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--rounds", type=int, default=PLAN.rounds)
    parser.add_argument("--epochs", type=float, default=PLAN.epochs)
    parser.add_argument("--rows", type=Path, help="a file of JSON lines: what it holds already is not computed again")
    parser.add_argument("--out", type=Path, default=Path("poisoning.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = PLAN.model_copy(update={"rounds": arguments.rounds, "epochs": arguments.epochs})
    with tempfile.TemporaryDirectory() as folder:
        judge = cache(lambda seed: Judge(phantoms(seed, Path(folder) / str(seed)), plan))
        every = [(ALONE, "mean"), *itertools.product(arguments.attacks, arguments.rules)]
        cases = [{"attack": attack, "rule": rule, "seed": seed} for seed in arguments.seeds for attack, rule in every]
        rows = measured(cases, lambda case: judge(case["seed"]).row(**case), arguments.rows)
    table = pd.DataFrame(rows).drop(columns=["seed", "seconds"]).groupby(["attack", "rule"], sort=False)
    spread = table[["fid", "retained"]].std().add_suffix(" sd")
    print(table.mean().join(spread).round(2).to_string())
    print(f"{sum(row['seconds'] for row in rows):.0f} CPU s")
    leave(arguments.out, claims(rows), rows)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what each attack leaves under each rule, what a rule gains over the mean, and who is named."""
    of = {key: own.set_index("seed") for key, own in pd.DataFrame(rows).groupby(["attack", "rule"], sort=False)}
    found = []
    for (attack, rule), own in of.items():
        case = attack if attack == ALONE else f"{attack}, {rule}"
        found.append(over_seeds(f"{case}: accuracy retained of the real images'", own["retained"]))
        if attack.startswith("backdoor"):
            found.append(over_seeds(f"{case}: trigger in the images", own["trigger"]))
        if rule != "mean":
            gained = own["retained"] - of[attack, "mean"]["retained"] if (attack, "mean") in of else []
            found += [over_seeds(f"{case}: retained, beside a mean of the same seed", gained)] if len(gained) else []
            found.append(over_seeds(f"{case}: rounds in which the hostile site is named", own["named"]))
            found.append(over_seeds(f"{case}: rounds in which an honest site is named", own["honest named"]))
    return found


class Judge:
    """The sites of one seed, the real images that all sets are compared with, and what networks reach on these."""

    def __init__(self, made: tuple[Params, dict[str, ImageSet]], plan: Training):
        (self.params, self.sites), self.plan = made, plan
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
        there = [site for site in self.sites if site != HOSTILE or attack != ALONE]
        sites = {site: tensors(self.sites[site].split("train"), params.image) for site in there}
        with tempfile.TemporaryDirectory() as folder:
            run, act = Path(folder) / "run", "none" if attack == ALONE else attack
            family, records = federate(
                lambda: build(params, seed), FEDAVG, self.plan, sites, act, RULES[rule], run, seed
            )  # fmt: skip
        drawn, y = draw(family, IMAGES)
        masks = params.image.index(params.image.masks)
        drawn[:, masks] = np.where(drawn[:, masks] > 0, 1.0, -1.0)
        made = synthetic(params, drawn, y, "vae", "benchmark")
        named = {s: float(np.mean([s in record.get("bounded", {}) for record in records])) for s in self.sites}
        scans = params.image.index(params.image.images)
        found = {
            "fid": fid(self.features, self.of(drawn)),
            "retained": self.accuracy(network(self.use, fit(self.use, params, made, 1), 1)) / self.pooled,
            "trigger": trigger_in(drawn[:, scans], np.array(self.test.images)[:, scans]),
            "named": named.pop(HOSTILE), "honest named": float(np.mean(list(named.values()))),
        }  # fmt: skip
        return found | {"seconds": time.process_time() - began}


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


if __name__ == "__main__":
    main()
