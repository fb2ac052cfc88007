"""How much a use's score follows from the seed of its network: the same real images, the same budget, other seeds.

    python benchmarks/judges.py --phantoms 201 202 203 --seeds 1 2 3 4 5 6 --out docs/evidence/judges.json

For each phantom seed the sites of params.yaml have other patients, on whose test images nothing is reported elsewhere.
Networks of each use are trained on one site's training images ("own", tested there) and on all sites' ("pooled", mean
of the sites), once for each seed. What differs between them is the judge's own noise, which a set's worth has as well.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from choices import study
from evidence import Claim, leave, measured, over_seeds
from families import load

from fedsynth.data.dataset import concatenate
from fedsynth.worth.use_networks import fit, network, testing, training, uses

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, nargs="+", default=[201, 202, 203])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6], help="of the uses' networks")
    parser.add_argument("--rows", type=Path, help="what was measured, as JSON lines: kept, and not measured again")
    parser.add_argument("--out", type=Path, help="leave the claims for docs/evidence.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = [{"phantoms": seed} for seed in arguments.phantoms]
    kept = measured(cases, lambda case: {"scores": scored(case["phantoms"], arguments.seeds)}, arguments.rows)
    rows = [row for of in kept for row in of["scores"]]
    found = claims(rows)
    for claim in found:
        print(claim)
    if arguments.out:
        leave(arguments.out, found, rows)


def scored(seed: int, of: list[int]) -> list[Row]:
    """Return the headline score of each use by training set and seed of its network."""
    params, found = study(seed), []
    with tempfile.TemporaryDirectory() as folder:
        sites = list(load(params, Path(folder)).values())
    sets = {"own": (training(sites[0]), sites[:1]), "pooled": (concatenate([training(s) for s in sites]), sites)}
    for name, use in uses(params).items():
        for on, (images, tested) in sets.items():
            for number in of:
                began = time.process_time()
                net = network(use, fit(use, params, images, number), number)
                cpu = time.process_time() - began
                each = [use.value(use.judged(net, *testing(site).tensors(params.image))) for site in tested]
                row = {"phantoms": seed, "use": name, "on": on, "seed": number, "score": statistics.fmean(each)}
                found.append(row | {"cpu_s": round(cpu, 2)})
                print(found[-1], flush=True)
    return found


def claims(rows: list[Row]) -> list[Claim]:
    """Return mean, spread and lowest score of each use and training set, over the phantoms' seeds."""
    found = []
    for use, on in dict.fromkeys((row["use"], row["on"]) for row in rows):
        of = [[row["score"] for row in rows if (row["use"], row["on"], row["phantoms"]) == (use, on, seed)]
              for seed in dict.fromkeys(row["phantoms"] for row in rows)]  # fmt: skip
        said = f"{use}, trained on {'one site' if on == 'own' else 'all sites'}"
        found += [
            over_seeds(f"{said}: mean score of a network", (statistics.fmean(scores) for scores in of)),
            over_seeds(f"{said}: standard deviation over the networks' seeds", (statistics.stdev(s) for s in of)),
            Claim(f"{said}: lowest score of a network", min(map(min, of)), sum(map(len, of))),
        ]
    return found


if __name__ == "__main__":
    main()
