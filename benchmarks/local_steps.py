"""Sites of unequal size: what each way of averaging makes of their unequal numbers of steps.

    python benchmarks/local_steps.py --seeds 1 2 3 4 5 --out docs/evidence/local_steps.json

Phantoms of 16 x 16 pixels at three sites, one large and two small ones with other scanners. The same family is trained
by FedAvg (weights by images, `epochs`), by FedAvg with equal weights, by FedNova, and by FedAvg with `local_steps`, the
same number at every site: the mean of those, so that all sites together do the same work, or the most of those, so that
a round takes as long, because it waits for the large site. Each model is judged by its error on the held-out images of
the large and of the small sites, as a peak signal-to-noise ratio in dB (`Family.error`, of the same noise; a GAN has
none), and by the FID of a set with as many images of each class to the held-out images of all sites. Differences are to
FedAvg of the same seed, with Student's interval over the seeds. One process, one thread.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from communication import extractor, images, sample
from evidence import Claim, leave, measured, over_seeds

from fedsynth import params as config
from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.measures.fid import fid
from fedsynth.params import Block
from fedsynth.training.trainer import Trainer
from fedsynth.worth import use_networks

FAMILIES = {
    "vae": {"class_path": "fedsynth.families.vae.VAE", "args": {"sigma": 0.2, "latent": 16}},
    "diffusion": {"class_path": "fedsynth.families.diffusion.Diffusion", "args": {"channels": [16, 32], "steps": 12}},
    "gan": {"class_path": "fedsynth.families.gan.GAN", "args": {"width": 8}},
}
AVG, NOVA = "fedsynth.algorithms.fedavg.FedAvg", "fedsynth.algorithms.fednova.FedNova"
# algorithm, and which of the sites' numbers of steps all of them take, if they take the same
WAYS: dict[str, tuple[dict[str, Any], Callable[[list[int]], float] | None]] = {
    "FedAvg": ({"class_path": AVG}, None),
    "equal weights": ({"class_path": AVG, "args": {"weighting": "equal"}}, None),
    "FedNova": ({"class_path": NOVA}, None),
    "equal steps, the mean": ({"class_path": AVG}, statistics.mean),
    "equal steps, the most": ({"class_path": AVG}, max),
}
JUDGED = {"large": "dB", "small": "dB", "fid": ""}  # number -> its unit
LARGE = "north"
SITES = {
    LARGE: {"images": 240, "mix": [0.45, 0.4, 0.15], "noise": 0.04, "bias": 0.10, "gamma": 0.9, "gain": 1.0},
    # of each class five images are for training, of two or three patients, and all others are held out
    "east": {"images": 120, "train": 5, "noise": 0.08, "bias": 0.25, "gamma": 1.1, "gain": 0.8},
    "south": {"images": 120, "train": 5, "noise": 0.08, "bias": 0.40, "gamma": 1.25, "gain": 1.3},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--images", type=int, default=600, help="synthetic images for FID")
    parser.add_argument("--rows", type=Path, help="a file of JSON lines: what it holds already is not computed again")
    parser.add_argument("--out", type=Path, default=Path("local_steps.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    params = small(arguments)
    sites = images(params)
    features = extractor(params, sites)
    every = itertools.product(arguments.families, arguments.seeds, arguments.ways)
    cases = [{"family": family, "seed": seed, "way": way} for family, seed, way in every]

    def measure(case: dict[str, Any]) -> dict[str, float | None]:
        return judged(params, sites, trained(params, sites, **case), features, arguments.images)

    rows = measured(cases, measure, arguments.rows)
    found = differences(rows)
    print(markdown(rows, found))
    leave(arguments.out, [claim for of in found.values() for claim in of.values()], rows)


def small(arguments: argparse.Namespace) -> config.Params:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["image"]["size"] = [16, 16]
    raw["source"]["args"]["sites"] = SITES
    training = {"rounds": arguments.rounds, "epochs": arguments.epochs, "batch": 8}
    raw["models"] = {name: {"family": FAMILIES[name], "training": training} for name in arguments.families}
    return config.Params.model_validate(raw)


def trained(params: config.Params, sites: dict[str, ImageSet], family: str, way: str, seed: int) -> Any:
    """Return the family after the rounds, by the sites' trainers and the algorithm's server half."""
    image, model = params.image, params.models[family]
    plan, (block, alike) = model.training, WAYS[way]
    parts = [site.split("train") for site in sites.values()]
    if alike is not None:
        plan = plan.model_copy(update={"local_steps": round(alike([plan.steps(len(part)) for part in parts]))})
    torch.manual_seed(seed)
    made, server = model.family.build(**image.context()), Block(**block).build()
    trainers = [
        Trainer(model.family.build(**image.context()), Block(**block).build(), plan,
                torch.tensor(part.channels(image, image.generated)), torch.from_numpy(part.labels(image)), None,
                100 * seed + number)
        for number, part in enumerate(parts)
    ]  # fmt: skip
    current = {n: p.detach().numpy().copy() for n, p in server.parameters(made).items()}
    for number in range(plan.rounds):
        updates = []
        for place, trainer in enumerate(trainers):
            torch.manual_seed(1000 * seed + 10 * number + place)
            update = trainer.round(current, number)
            updates.append((str(place), update.weight, update.difference))
        steps = {str(place): trainer.steps for place, trainer in enumerate(trainers)}
        server.before_aggregate(lambda: made, current, {}, steps, bool(plan.ema) and number == plan.rounds - 1)
        change = server.aggregate(updates)
        current = {n: a + change[n] for n, a in current.items()}
    made.load_state_dict({n: torch.from_numpy(a) for n, a in current.items()}, strict=False)
    return made.eval()


def judged(
    params: config.Params, sites: dict[str, ImageSet], family: Any, features: Any, n: int
) -> dict[str, float | None]:
    held_out = {site: use_networks.held_out(s) for site, s in sites.items()}
    real = torch.tensor(concatenate(list(held_out.values())).images)
    found: dict[str, float | None] = {"fid": fid(features(real), features(sample(family, params, n)))}
    if not family.has_error:
        return {"large": None, "small": None} | found
    decibels = {site: psnr(params.image, family, of) for site, of in held_out.items()}
    others = [value for site, value in decibels.items() if site != LARGE]
    return {"large": decibels[LARGE], "small": float(np.mean(others))} | found


def psnr(image: config.Image, family: Any, of: ImageSet) -> float:
    torch.manual_seed(0)
    x, y = torch.tensor(of.channels(image, image.generated)), torch.from_numpy(of.labels(image))
    with torch.no_grad():
        return 10 * math.log10(4 / float(family.error(x, y, None)))


def differences(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Claim]]:
    """Return, for each family and way, the differences of its numbers to FedAvg's of the same seed."""
    said = {"large": "held-out images of the large site", "small": "those of the small sites", "fid": "FID"}
    plain = {(row["family"], row["seed"]): row for row in rows if row["way"] == "FedAvg"}
    found = {}
    for family, way in dict.fromkeys((row["family"], row["way"]) for row in rows if row["way"] != "FedAvg"):
        of = [row for row in rows if (row["family"], row["way"]) == (family, way)]
        found[family, way] = {
            name: over_seeds(f"{family}, {way} instead of FedAvg: {said[name]}",
                             (row[name] - plain[family, row["seed"]][name] for row in of), unit)
            for name, unit in JUDGED.items() if of[0][name] is not None
        }  # fmt: skip
    return found


def markdown(rows: list[dict[str, Any]], found: dict[tuple[str, str], dict[str, Claim]]) -> str:
    """Return the table: FedAvg's means, and of the others the mean difference with its interval."""
    lines = ["| family | way | large site, dB | small sites, dB | FID |", "|---|---|---:|---:|---:|"]
    for family in dict.fromkeys(row["family"] for row in rows):
        plain = [row for row in rows if (row["family"], row["way"]) == (family, "FedAvg")]
        means = [
            f"{np.mean([row[name] for row in plain]):.2f}" if plain[0][name] is not None else "" for name in JUDGED
        ]
        lines.append(f"| {family} | FedAvg | {' | '.join(means)} |")
        for (of, way), claims in found.items():
            if of == family:
                cells = [_cell(claims[name]) if name in claims else "" for name in JUDGED]
                lines.append(f"| {family} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(claim: Claim) -> str:
    ends = f" ({claim.interval[0]:+.2f} to {claim.interval[1]:+.2f})" if claim.interval else ""
    return f"{claim.number:+.2f}{ends}"


if __name__ == "__main__":
    main()
