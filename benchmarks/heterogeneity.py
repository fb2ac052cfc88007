"""Algorithms on heterogeneous sites: the gap closed by a synthetic set, for each algorithm and partition of the images.

    python benchmarks/heterogeneity.py --out table.json

The phantoms of three scanners are partitioned anew: "iid", "dirichlet" (alpha 0.3) and "silos" (one class at each site)
mix the scanners, "scanner" leaves each at its own site. All four use the same images, network and number of steps, and
one seed. Networks are tested on the test images of all sites together, because a site of one class has nothing else to
be tested on: gap closed = (augmented - local) / (pooled - local), with balanced accuracy averaged over the sites.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from families import build, complete, override, train, wanted

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.data.partition import Partition, deal
from fedsynth.params import Block, Params
from fedsynth.sources.phantom import Phantom
from fedsynth.stages.ingest import ingest
from fedsynth.stages.score import balance
from fedsynth.worth.use_networks import SHARES, fit, network

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
    parser.add_argument("--out", type=Path, default=Path("heterogeneity.json"), help="rows as JSON, written after each")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("heterogeneity-data"),
        help="folder of the phantoms; made where it is not there",
    )
    parser.add_argument("--model", default="diffusion")
    parser.add_argument("--partitions", nargs="+", choices=list(PARTITIONS), default=list(PARTITIONS))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--epochs", type=float, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    changes = [f"training.rounds={arguments.rounds}", f"training.epochs={arguments.epochs}"]
    params = override("params.yaml", arguments.model, changes)
    everything = phantoms(params, arguments.data)
    rows: list[dict[str, object]] = []
    for name in arguments.partitions:
        entry = PARTITIONS[name]
        sites = dealt(params, everything, entry)
        test = concatenate([s.split("test") for s in sites.values()])
        local = [score(params, s.split("train"), test) for s in sites.values()]
        pooled = score(params, concatenate([s.split("train") for s in sites.values()]), test)
        for algorithm, block in ALGORITHMS.items():
            model = params.models[arguments.model].model_copy(update={"algorithm": Block(**block)})
            family = build(params, model)
            train(params, model, family, sites)
            drawn = sampled(params, family, sites)
            augmented = [score(params, s.split("train"), test, drawn) for s in sites.values()]
            gap = pooled - np.mean(local)
            counts = {k: len(s.split("train")) for k, s in sites.items()}
            rows.append({"partition": name, "algorithm": algorithm, "images": counts,
                         "local": float(np.mean(local)), "pooled": pooled,
                         "synthetic": score(params, drawn, test),
                         "augmented": float(np.mean(augmented)),
                         "gap_closed": float((np.mean(augmented) - np.mean(local)) / gap)})  # fmt: skip
            print(rows[-1], flush=True)
            arguments.out.write_text(json.dumps(rows, indent=1))
    table = (
        pd.DataFrame(rows)
        .pivot(index="partition", columns="algorithm", values="gap_closed")
        .loc[arguments.partitions, list(ALGORITHMS)]
    )
    print(table.round(2))


def phantoms(params: Params, folder: Path) -> dict[str, ImageSet]:
    scanners = {name: entry | {"images": IMAGES, "mix": None} for name, entry in params.source.args["sites"].items()}
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


def score(params: Params, train_on: ImageSet, test: ImageSet, added: ImageSet | None = None) -> float:
    """Return the balanced accuracy on `test` of a network trained on `train_on`, or on it and `added`.

    With `added`, images are drawn in the shares of the `augmented` row.
    """
    use, weights = params.score.uses["classification"].build(**params.image.context()), None
    if added is not None:
        share = SHARES[0] if params.score.real_share == "val" else float(params.score.real_share)
        both = concatenate([train_on, added])
        weights, train_on = balance(both, len(train_on), share), both
    net = network(use, fit(use, params, train_on, 1, weights), 1)
    return float(use.score(net, *test.tensors(params.image))[0][use.headline])


if __name__ == "__main__":
    main()
