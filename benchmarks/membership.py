"""What the attacks on membership find, with and without reference models, on the same images; and what they cost.

    python benchmarks/membership.py vae diffusion gan --seeds 3

For each seed a site of phantoms has its own patients, and a model of params.yaml is trained on its training images
alone, for `--epochs` in one round. The attacks are those of the audit: the loss as it was before (times and noise at
random, `before`), the numbers that the family offers (`loss`), and these with 2 and 4 reference models. The control
asks the same questions of the next seed's model, which saw neither side: it must read .5. Numbers are means over the
seeds (least to greatest).
"""

from __future__ import annotations

import argparse
import copy
import resource
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence import Claim, leave, over_seeds

from fedsynth import params as config
from fedsynth.data.dataset import ImageSet
from fedsynth.features.classifier import Classifier
from fedsynth.measures import MeasureInputs
from fedsynth.measures.membership import Membership
from fedsynth.stages.ingest import ingest_site
from fedsynth.training.alone import train_alone

ATTACKS = ("before", "loss", "2 references", "4 references")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="keys of models in the params file")
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--size", type=int, default=16, help="side of an image in pixels")
    parser.add_argument("--epochs", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("membership.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | attack | AUC | TPR at 1 % | epsilon, at least | control, AUC | CPU s, training / attack |")
    print("|---|---|---|---|---|---|---|", flush=True)
    rows = [row for name in arguments.models for row in table(name, arguments)]
    leave(arguments.out, claims(rows), rows)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    said = {"target": "AUC on its members", "control": "AUC of the control, which saw none"}
    return [
        over_seeds(f"{row['model']}, attack {row['attack']}: {said[row['of']]}", (seed["auc"] for seed in row["seeds"]))
        for row in rows
    ]


def table(name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Print a line for each attack. Returns {"model", "attack", "of", "seeds": [{"auc", ...}]}, of controls, too."""
    params = tiny(arguments)
    model = params.models[name]
    training = model.training.model_copy(update={"rounds": 1, "epochs": arguments.epochs})

    def train(images: ImageSet, seed: int) -> Any:
        return train_alone(model.family, training, params.image, images, seed)

    seeds = range(1, arguments.seeds + 1)
    sites = {seed: site(params, seed) for seed in seeds}
    cost: dict[str, float] = defaultdict(float)
    targets = {seed: timed(cost, "training", lambda s=seed: train(sites[s].split("train"), 100 + s)) for seed in seeds}
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for seed, real in sites.items():
        retrain = remembered(train)
        for of, which in (("target", targets[seed]), ("control", targets[seed % len(seeds) + 1])):
            seen = inputs(params, real, which, seed, tuple(training.flip), retrain)
            for attack in ATTACKS:
                values = timed(cost, f"{of} {attack}", lambda a=attack, s=seen: attacked(s, a))
                found[of, attack].append(values)
    for attack in ATTACKS:
        print(line(name, attack, found["target", attack], found["control", attack], cost, len(seeds)), flush=True)
    return [{"model": name, "attack": attack, "of": of, "seeds": values} for (of, attack), values in found.items()]


def tiny(arguments: argparse.Namespace) -> config.Params:
    """Return the params with one site of so many small images."""
    raw = config.load(arguments.params).model_dump(mode="json")
    raw["source"]["args"]["sites"] = {"north": {"images": arguments.images}}
    raw["image"]["size"] = [arguments.size, arguments.size]
    return config.Params.model_validate(raw)


def site(params: config.Params, seed: int) -> ImageSet:
    of = params.model_copy(update={"seed": seed})
    folder = Path(tempfile.mkdtemp())
    ingest_site(of, of.source.build(image=of.image, seed=seed), "north", folder)
    return ImageSet.load(folder / "north")


def inputs(
    params: config.Params, real: ImageSet, family: Any, seed: int, flip: tuple[int, ...], retrain: Any
) -> MeasureInputs:
    train = (real.manifest["split"] == "train").to_numpy(dtype=bool)
    nothing = real.where(np.zeros(len(real), dtype=bool))  # no synthetic set: these attacks have the weights
    return MeasureInputs(
        params.image, nothing, Classifier(), held_out=real.where(~train), train=real.where(train), family=family,
        flip=flip, seed=seed, retrain=retrain,
    )  # fmt: skip


def attacked(seen: MeasureInputs, attack: str) -> dict[str, float]:
    """Return AUC, TPR and bound on epsilon of one attack."""
    references = int(attack[0]) if attack[0].isdigit() else 0
    if attack == "before":
        seen = copy.copy(seen)
        seen.family = copy.deepcopy(seen.family)
        seen.family.evidence = lambda *_: None  # type: ignore[method-assign,union-attr]
    values = Membership(draws=8, references=references).at_site(seen).values
    kind = "reference" if references else "loss"
    names = {"auc": f"membership_{kind}_auc", "tpr": f"membership_{kind}_tpr", "epsilon": "membership_epsilon"}
    return {name: float(v) for name, n in names.items() if (v := values[n].value) is not None}


def remembered(train: Callable[[ImageSet, int], Any]) -> Callable[[ImageSet, int], Any]:
    """Return `train` that trains the same model once."""
    known: dict[int, Any] = {}

    def again(images: ImageSet, seed: int) -> Any:
        if seed not in known:
            known[seed] = train(images, seed)
        return known[seed]

    return again


def timed(cost: dict[str, float], what: str, work: Callable[[], Any]) -> Any:
    began = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    result = work()
    cost[what] += resource.getrusage(resource.RUSAGE_SELF).ru_utime - began
    return result


def line(name: str, attack: str, target: list[dict[str, float]], control: list[dict[str, float]],
         cost: dict[str, float], n: int) -> str:  # fmt: skip
    def of(found: list[dict[str, float]], number: str) -> str:
        values = [f[number] for f in found if number in f]
        return f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "missing"

    spent = cost[f"target {attack}"] + (cost["target 2 references"] if attack.startswith("4") else 0)
    seconds = f"{cost['training'] / n:.0f} / {spent / n:.0f}"
    columns = [of(target, "auc"), of(target, "tpr"), of(target, "epsilon"), of(control, "auc"), seconds]
    return f"| {name} | {attack} | {' | '.join(columns)} |"


if __name__ == "__main__":
    main()
