"""Sites of unequal size: what each way of averaging makes of their unequal numbers of steps.

    python benchmarks/local_steps.py --seeds 1 2 3 4 5 --out docs/evidence/local_steps.json

Phantoms of 16 x 16 pixels at three sites, one large and two small ones with other scanners. The same family is trained
by FedAvg (weights by images, `epochs`), by FedAvg with equal weights, by FedNova, and by FedAvg with `local_steps`, the
same number at every site: the mean of those, so that all sites together do the same work, or the most of those, so that
a round takes as long, because it waits for the large site. Each model is judged by its error on the held-out
images of the large and of the small sites, as a peak signal-to-noise ratio in dB (`Family.error`, of the same noise),
and by the FID of a set with as many images of each class to the held-out images of all sites. Differences are to FedAvg
of the same seed, with a t interval over the seeds. One process, one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from communication import extractor, images, sample
from evidence import Claim, leave
from scipy.stats import t as student

from fedsynth import params as config
from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.measures.fid import fid
from fedsynth.params import Block
from fedsynth.training.trainer import Trainer

FAMILIES = {
    "vae": {"class_path": "fedsynth.families.vae.VAE", "args": {"sigma": 0.2, "latent": 16}},
    "diffusion": {"class_path": "fedsynth.families.diffusion.Diffusion", "args": {"channels": [16, 32], "steps": 12}},
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
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
    features, rows = extractor(params, sites), []
    if arguments.rows and arguments.rows.is_file():
        rows = [json.loads(line) for line in arguments.rows.read_text().splitlines()]
    for family, seed, way in itertools.product(arguments.families, arguments.seeds, WAYS):
        about = {"family": family, "seed": seed, "way": way}
        if any(about.items() <= row.items() for row in rows):
            continue
        model = trained(params, sites, family, way, seed)
        rows.append(about | judged(params, sites, model, features, arguments.images))
        print(rows[-1], flush=True)
        if arguments.rows:
            arguments.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = differences(rows)
    print(markdown(rows, found))
    leave(arguments.out, claims(found, len(arguments.seeds)), rows)


def small(arguments: argparse.Namespace) -> config.Params:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["image"]["size"] = [16, 16]
    for name, site in raw["source"]["args"]["sites"].items():
        site["images"] = 400 if name == LARGE else 120
    training = {"rounds": arguments.rounds, "epochs": arguments.epochs, "batch": 8}
    raw["models"] = {name: {"family": FAMILIES[name], "training": training} for name in arguments.families}
    return config.Params.model_validate(raw)


def trained(params: config.Params, sites: dict[str, ImageSet], name: str, way: str, seed: int) -> Any:
    """Return the family after the rounds, by the sites' trainers and the algorithm's server half."""
    image, model = params.image, params.models[name]
    plan, (block, alike) = model.training, WAYS[way]
    parts = [site.split("train") for site in sites.values()]
    if alike is not None:
        plan = plan.model_copy(update={"local_steps": round(alike([plan.steps(len(part)) for part in parts]))})
    torch.manual_seed(seed)
    family, server = model.family.build(**image.context()), Block(**block).build()
    trainers = [
        Trainer(model.family.build(**image.context()), Block(**block).build(), plan,
                torch.tensor(part.channels(image, image.generated)), torch.from_numpy(part.labels(image)), None,
                100 * seed + number)
        for number, part in enumerate(parts)
    ]  # fmt: skip
    current = {n: p.detach().numpy().copy() for n, p in server.parameters(family).items()}
    for number in range(plan.rounds):
        updates = []
        for place, trainer in enumerate(trainers):
            torch.manual_seed(1000 * seed + 10 * number + place)
            update = trainer.round(current, number)
            updates.append((str(place), update.weight, update.difference))
        steps = {str(place): trainer.steps for place, trainer in enumerate(trainers)}
        server.before_aggregate(lambda: family, current, {}, steps, bool(plan.ema) and number == plan.rounds - 1)
        change = server.aggregate(updates)
        current = {n: a + change[n] for n, a in current.items()}
    family.load_state_dict({n: torch.from_numpy(a) for n, a in current.items()}, strict=False)
    return family.eval()


def judged(params: config.Params, sites: dict[str, ImageSet], family: Any, features: Any, n: int) -> dict[str, float]:
    held_out = {site: concatenate([s.split(part) for part in ("val", "test")]) for site, s in sites.items()}
    decibels = {site: psnr(params.image, family, of) for site, of in held_out.items()}
    others = [value for site, value in decibels.items() if site != LARGE]
    real = torch.tensor(concatenate(list(held_out.values())).images)
    found = fid(features(real), features(sample(family, params, n)))
    return {"large": decibels[LARGE], "small": float(np.mean(others)), "fid": found}


def psnr(image: config.Image, family: Any, of: ImageSet) -> float:
    torch.manual_seed(0)
    x, y = torch.tensor(of.channels(image, image.generated)), torch.from_numpy(of.labels(image))
    with torch.no_grad():
        return 10 * math.log10(4 / float(family.error(x, y, None)))


def differences(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each family, way and number, the mean difference to FedAvg of the same seed, and its interval."""
    plain = {(row["family"], row["seed"]): row for row in rows if row["way"] == "FedAvg"}
    found = []
    for family, way in dict.fromkeys((row["family"], row["way"]) for row in rows if row["way"] != "FedAvg"):
        of = [row for row in rows if (row["family"], row["way"]) == (family, way)]
        for name in JUDGED:
            away = np.array([row[name] - plain[family, row["seed"]][name] for row in of])
            wide = student.ppf(0.975, len(away) - 1) * away.std(ddof=1) / math.sqrt(len(away)) if len(away) > 1 else 0
            ends = (float(away.mean() - wide), float(away.mean() + wide))
            found.append({"family": family, "way": way, "name": name, "mean": float(away.mean()), "ends": ends})
    return found


def claims(found: list[dict[str, Any]], seeds: int) -> list[Claim]:
    what = {"large": "held-out images of the large site", "small": "those of the small sites", "fid": "FID"}
    return [
        Claim(f"{of['family']}, {of['way']} instead of FedAvg: {what[of['name']]}", of["mean"], seeds, of["ends"],
              JUDGED[of["name"]])
        for of in found
    ]  # fmt: skip


def markdown(rows: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """Return the table: FedAvg's means, and of the others the mean difference with its interval."""
    lines = ["| family | way | large site, dB | small sites, dB | FID |", "|---|---|---:|---:|---:|"]
    for family in dict.fromkeys(row["family"] for row in rows):
        plain = [row for row in rows if (row["family"], row["way"]) == (family, "FedAvg")]
        means = " | ".join(f"{np.mean([row[name] for row in plain]):.2f}" for name in JUDGED)
        lines.append(f"| {family} | FedAvg | {means} |")
        for way in list(WAYS)[1:]:
            of = {d["name"]: d for d in found if (d["family"], d["way"]) == (family, way)}
            cells = [f"{of[n]['mean']:+.2f} ({of[n]['ends'][0]:+.2f} to {of[n]['ends'][1]:+.2f})" for n in JUDGED]
            lines.append(f"| {family} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
