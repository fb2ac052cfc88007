"""What a hostile centre gets of a hospital's images, by attack and setting; docs/threats.md has the tables.

    PYTHONPATH=. python benchmarks/attacks.py division crafted score --seeds 1 2 3

All runs on the hospital's own functions in process (tests/attacks/hospital.py), with phantoms: 160 images at the
hospital, of which about 96 are trained on, and 120 others that the centre has itself. "shown": training images of which
a reconstruction is nearer than half the distance of the best guess; "exact": of which every pixel is right to 1e-2 (of
-1 to 1); "best": distance over that of the best guess (1: no better than guessing); "r": correlation of the best
reconstruction with its image beyond the mean, in brackets that of the best guess (tests/attacks/recovery.py). Means
over the seeds, of "shown" also the range.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedsynth.params import Params
from tests.attacks import division, oracle, recovery, trap
from tests.attacks.hospital import Hospital, floors_only, hospital, study, with_model
from tests.attacks.recovery import Recovered
from tests.attacks.trap import GENTLE, PATIENT

OPEN = ExitStack()
DPSGD = "fedsynth.privacy.dpsgd.DPSGD"
TRAINED = {"batch": 1, "lr": 1.0}  # of several steps: a learning rate that does not move the weights at this clip
DIVISION: dict[str, dict[str, Any]] = {
    "40 rounds of one image": {"rounds": 40},
    "clip 1e-2": {"clip": 1e-2},
    "clip null, lr 0.1": {"clip": None, "lr": 0.1},
    "clip null, lr 1e-3": {"clip": None, "lr": 1e-3},
    **{f"batch {n}": {"batch": n} for n in (2, 4, 8, 16, 32)},
    **{f"{n} steps of one image": TRAINED | {"steps": n} for n in (2, 8, 20)},
    "5 steps of 4 images": {"batch": 4, "lr": 1.0, "steps": 5},
    "patch half of the image": {"patch": 8},
    "patch a quarter of the image": {"patch": 4},
}
HONEST = {"rounds": 4, "epochs": 4, "batch": 8, "lr": 2e-3, "ema": 0.99, "flip": [1]}  # of params.yaml's vae
SUMS = {"as secure aggregation opens it": 0.0, "with the noise that CKKS adds": 1e-5}  # fedsynth/privacy/he.py: flood
CRAFTED: dict[str, dict[str, Any]] = {
    "imprint, 4 rounds of 4 epochs": {},
    **{f"batch {n}": {"batch": n} for n in (32, 96)},
    "clip 1e-2": {"clip": 1e-2},
    "lr 0.1": {"lr": 0.1},
    "half an epoch": {"epochs": 0.5},
    "numbers up to 110": {"force": GENTLE},
    "numbers up to 110, clip null": {"force": GENTLE, "clip": None},
    "numbers up to 40": {"force": GENTLE._replace(limit=30.0, anchor=8.0)},
    "numbers up to 20": {"force": GENTLE._replace(limit=11.0, anchor=4.0)},
    **{f"the sum of three hospitals, {name}": {"sites": 3, "flood": flood} for name, flood in SUMS.items()},
    "patient, against the default policy, 14 rounds": {"rounds": 14, "patient": True},
    **{f"DP-SGD, epsilon {e:g}": {"epsilon": e, "batch": 64, "force": PATIENT} for e in (1e6, 8)},
    "imprint, 10 rounds of 8 epochs": {"rounds": 10, "epochs": 8},
    "trap weights, 10 rounds of 8 epochs": {"rounds": 10, "epochs": 8, "imprint": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", choices=["division", "crafted", "score"], default=["division"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--rows", type=Path, help="what was measured, as JSON lines: kept, and not measured again")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with OPEN:
        for attack in arguments.attacks:
            if attack == "score":
                scored(arguments.seeds)
            else:
                table(attack, arguments.seeds, arguments.only, arguments.rows)


def table(attack: str, seeds: list[int], only: str, kept: Path | None) -> None:
    rows, run = {"division": (DIVISION, divided), "crafted": (CRAFTED, opened)}[attack]
    print("| setting | shown of n (range) | exact | best | median of shown | r (guess) |\n|" + "---|" * 6)
    lines = kept.read_text().splitlines() if kept and kept.is_file() else []
    known = {(row["attack"], row["name"], row["seed"]): Recovered(**row["found"]) for row in map(json.loads, lines)}
    for name, changes in rows.items():
        if only not in name:
            continue
        for seed in seeds:
            if (attack, name, seed) not in known:
                found = known[attack, name, seed] = run(seed, changes)
                if kept:
                    row = {"attack": attack, "name": name, "seed": seed, "found": dataclasses.asdict(found)}
                    with kept.open("a") as file:
                        file.write(json.dumps(row) + "\n")
        print(f"| {name} | {line([known[attack, name, seed] for seed in seeds])} |", flush=True)


def line(found: list[Recovered]) -> str:
    def mean(of: str) -> float:
        return float(np.mean([getattr(one, of) for one in found]))

    shown = [one.shown for one in found]
    return (
        f"{mean('shown'):.1f} of {mean('of'):.0f} ({min(shown)}-{max(shown)}) | {mean('exact'):.1f}"
        f" | {mean('best'):.2g} | {mean('median'):.2g} | {mean('correlation'):.3f} ({mean('guessed'):.2f})"
    )


@cache
def unprotected(seed: int, size: int) -> Hospital:
    """A hospital without a policy; its folder is removed at the end of the process."""
    return OPEN.enter_context(hospital(study(seed, size=size)))


def divided(seed: int, changes: dict[str, Any]) -> Recovered:
    at, asked = unprotected(seed, 16), {"rounds": 20} | changes
    if steps := asked.pop("steps", 0):
        asked["epochs"] = steps * asked["batch"] / len(at.train_images)
    found = division.attack(at, division.job(study(seed, size=16), **asked), units=8)
    return recovery.compare(found, at.train_images, at.public.images)


def opened(seed: int, changes: dict[str, Any]) -> Recovered:
    asked, params = HONEST | changes, study(seed, size=32)
    imprint, force, epsilon = asked.pop("imprint", True), asked.pop("force", trap.STRONG), asked.pop("epsilon", None)
    sites, flood = asked.pop("sites", 0), asked.pop("flood", 0.0)
    privacy, patient = (
        {"class_path": DPSGD, "args": {"epsilon": epsilon}} if epsilon else None,
        asked.pop("patient", False),
    )
    model = with_model(params, "vae.VAE", {"sigma": 0.2, "latent": 16}, privacy, **asked)
    if patient:
        with hospital(params, floors_only()) as at:
            return judged(at, trap.patient(at, model, seed))
    at = unprotected(seed, 32)
    if sites:
        return summed([unprotected(seed + 10 * k, 32) for k in range(sites)], seed, model, flood)
    return judged(at, trap.attack(at, model, imprint, seed, force))


def summed(sites: list[Hospital], seed: int, model: Params, flood: float) -> Recovered:
    """The imprint attack where the centre sees the sum of the sites' differences times their images, and no other."""
    asked, rounds = trap.Asked(sites[0], model, seed, trap.GENTLE), model.models["attacked"].training.rounds
    sent = [asked.opened(number, rounds, True) for number in range(rounds)]
    random, total = np.random.default_rng(seed), [{trap.ROWS: np.zeros(of[trap.ROWS].shape)} for of in sent]
    for at in sites:
        for of, answer in zip(total, at.train(model, sent), strict=True):
            of[trap.ROWS] += len(at.train_images) * answer[trap.ROWS].astype(np.float64)
    for of in total:
        of[trap.ROWS] += flood * random.standard_normal(of[trap.ROWS].shape)
    found = np.concatenate([trap.reconstructions(asked.family, asked.layout, of) for of in total])
    train = np.concatenate([at.train_images[:, :1] for at in sites])
    return recovery.compare(found, train, sites[0].public.images[:, :1], flip=True)


def judged(at: Hospital, found: np.ndarray) -> Recovered:
    return recovery.compare(found, at.train_images[:, :1], at.public.images[:, :1], flip=True)


def scored(seeds: list[int], each: int = 6) -> None:
    right, asked, read = 0, 0, []
    for seed in seeds:
        params = oracle.asking(seed, copies="copies.Copies")
        with hospital(params) as at:
            right += sum(said == member for said, member in told(at, params, each))
            asked += 2 * each
        reading = oracle.asking(seed, fid="fid.FID")
        with hospital(reading) as at:
            read.append(oracle.patient(at, reading))
    print(f"member or not, by five copies of an image: right in {right} of {asked} cases")
    for seed, found in zip(seeds, read, strict=True):
        print(f"features of one patient, seed {seed}:", found or "no gate opened for one patient alone")


def told(at: Hospital, params: Params, each: int) -> Iterator[tuple[bool, bool]]:
    """Yields what the oracle says, and the truth, of so many members and non-members."""
    for split in ("train", "test"):
        images = at.real.split(split)
        for image, label in list(zip(images.images, images.labels(params.image), strict=True))[:each]:
            yield oracle.member(at, params, image, int(label)), split == "train"


if __name__ == "__main__":
    main()
