"""Algorithms on heterogeneous sites: the gap closed by a synthetic set, for each algorithm and partition of the images.

    python benchmarks/heterogeneity.py --seeds 1 2 3 --out heterogeneity.json

The phantoms of three scanners are partitioned anew: "iid", "dirichlet" (alpha 0.3) and "silos" (one class at each site)
mix the scanners, "scanner" leaves each at its own site. All four use the same images, network and number of steps; each
seed has images, a partition and trainings of its own. Networks are tested on the test images of all sites together,
because a site of one class has nothing else to be tested on: gap closed = (augmented - local) / (pooled - local), with
balanced accuracy averaged over the sites. `score.real_share: val` is chosen by each site's validation images.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from evidence import Claim, leave, measured, over_seeds
from families import build, complete, override, train, wanted

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.data.partition import Partition, deal
from fedsynth.params import Block, Params
from fedsynth.sources.phantom import Phantom
from fedsynth.stages.ingest import ingest
from fedsynth.stages.score import balance, real_share
from fedsynth.worth.use_networks import fit, network, testing, training, uses

ALGORITHMS = {
    "FedAvg": {"class_path": "fedsynth.algorithms.fedavg.FedAvg"},
    "FedProx": {"class_path": "fedsynth.algorithms.fedprox.FedProx", "args": {"mu": 0.01}},
    "SCAFFOLD": {"class_path": "fedsynth.algorithms.scaffold.Scaffold"},
}
PARTITIONS = {
    "iid": {"kind": "iid", "sites": 3},
    "dirichlet": {"kind": "dirichlet", "sites": 3, "alpha": 0.3, "min_images": 2},
    "silos": {"kind": "silos", "sites": 3},
    "scanner": None,
}
IMAGES = 160  # per scanner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="diffusion")
    parser.add_argument("--partitions", nargs="+", choices=list(PARTITIONS), default=list(PARTITIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--size", type=int, default=32, help="side of an image in pixels")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--rows", type=Path, help="a file of JSON lines: what it holds already is not computed again")
    parser.add_argument("--out", type=Path, default=Path("heterogeneity.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    changes = [f"training.rounds={arguments.rounds}", f"training.epochs={arguments.epochs}"]
    params = override("params.yaml", arguments.model, changes)
    params.image.size = [arguments.size] * len(params.image.size)
    with tempfile.TemporaryDirectory() as folder:
        prepared = cache(lambda name, seed: Prepared(params, arguments.model, Path(folder), name, seed))
        every = itertools.product(arguments.seeds, arguments.partitions, ALGORITHMS)
        cases = [{"partition": name, "algorithm": algorithm, "seed": seed} for seed, name, algorithm in every]
        rows = measured(
            cases, lambda case: prepared(case["partition"], case["seed"]).row(case["algorithm"]), arguments.rows
        )
    print(pd.DataFrame(rows).pivot_table(index="partition", columns="algorithm", values="gap_closed").round(2))
    leave(arguments.out, claims(rows), rows)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return each partition's gap, what each algorithm's sets add, and how they differ from FedAvg's of the seed."""
    found = []
    for name, of in pd.DataFrame(rows).groupby("partition", sort=False):
        by = {algorithm: own.set_index("seed") for algorithm, own in of.groupby("algorithm", sort=False)}
        first = by["FedAvg"]
        found.append(over_seeds(f"{name}: accuracy of `pooled` less that of `local`", first["pooled"] - first["local"]))
        for algorithm, own in by.items():
            added = over_seeds(f"{name}, {algorithm}: `augmented` less `local`", own["augmented"] - own["local"])
            found += [added, over_seeds(f"{name}, {algorithm}: gap closed", own["gap_closed"])]
            if algorithm != "FedAvg":
                apart = own["augmented"] - first["augmented"]
                found.append(over_seeds(f"{name}, {algorithm} instead of FedAvg: `augmented`", apart))
    return found


class Prepared:
    """The sites of one partition and seed, and what networks reach there without synthetic images."""

    def __init__(self, params: Params, model: str, folder: Path, partition: str, seed: int):
        self.params, self.model = params.model_copy(update={"seed": seed}), model
        self.sites = dealt(self.params, phantoms(self.params, folder / str(seed)), PARTITIONS[partition])
        self.test = concatenate([testing(s) for s in self.sites.values()])
        self.local = float(np.mean([score(self.params, training(s), self.test) for s in self.sites.values()]))
        self.pooled = score(self.params, concatenate([training(s) for s in self.sites.values()]), self.test)

    def row(self, algorithm: str) -> dict[str, Any]:
        params = self.params
        model = params.models[self.model].model_copy(update={"algorithm": Block(**ALGORITHMS[algorithm])})
        family = build(params, model)
        train(params, model, family, self.sites)
        drawn = sampled(params, family, self.sites)
        augmented = float(np.mean([with_synthetic(params, s, self.test, drawn) for s in self.sites.values()]))
        gap = self.pooled - self.local
        return {"images": {site: len(training(s)) for site, s in self.sites.items()},
                "local": self.local, "pooled": self.pooled, "synthetic": score(params, drawn, self.test),
                "augmented": augmented, "gap_closed": (augmented - self.local) / gap if gap else None}  # fmt: skip


def phantoms(params: Params, folder: Path) -> dict[str, ImageSet]:
    scanners = {
        name: entry | {"images": IMAGES, "mix": None, "train": None}
        for name, entry in params.source.args["sites"].items()
    }
    block = params.source.model_copy(update={"args": params.source.args | {"sites": scanners}})
    source: Phantom = block.build(image=params.image, seed=params.seed)
    if not folder.is_dir():
        ingest(params.model_copy(update={"source": block}), folder)
    return {site: ImageSet.load(folder / site) for site in source.sites()}


def dealt(params: Params, everything: dict[str, ImageSet], entry: dict[str, object] | None) -> dict[str, ImageSet]:
    """Partition all images into sites by subject; without a partition, return the sites unchanged."""
    if entry is None:
        return {site: ImageSet(s.manifest, np.array(s.images)) for site, s in everything.items()}
    together = concatenate(list(everything.values()))
    subjects = (
        together.manifest.groupby("subject").agg(label=("label", "first"), images=("label", "size")).reset_index()
    )
    partition = Partition.model_validate(entry)
    where = together.manifest["subject"].map(deal(subjects, partition, params.seed))
    return {site: together.where(where == site) for site in partition.names}


def sampled(params: Params, family: torch.nn.Module, sites: dict[str, ImageSet]) -> ImageSet:
    from fedsynth.data.dataset import synthetic

    y, given = wanted(params, sites, params.sample.images)
    with torch.no_grad():
        drawn = complete(params, family.eval().sample(y, given, torch.Generator().manual_seed(params.seed)), given)
    return synthetic(params, drawn.numpy(), y.numpy(), "model", "benchmark")


def score(params: Params, train_on: ImageSet, test: ImageSet, weights: np.ndarray | None = None) -> float:
    """Return the balanced accuracy on `test` of a network trained on `train_on`."""
    use = uses(params)["classification"]
    net = network(use, fit(use, params, train_on, 1, weights), 1)
    return float(use.score(net, *test.tensors(params.image))[0][use.headline])


def with_synthetic(params: Params, real: ImageSet, test: ImageSet, drawn: ImageSet) -> float:
    """Return that of a network trained on a site's own and the synthetic images, as the row `augmented` is made."""
    both, own = concatenate([training(real), drawn]), uses(params)["classification"]
    with contextlib.redirect_stdout(None):
        share = real_share(params, own, real, both)
    return score(params, both, test, balance(both, len(training(real)), share))


if __name__ == "__main__":
    main()
