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
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence import Claim, leave, measured, over_seeds, share

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
SETTINGS = {"division": DIVISION, "crafted": CRAFTED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", choices=["division", "crafted", "score"], default=["division"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", default=[""], help="settings whose name holds one of these")
    parser.add_argument("--rows", type=Path, help="what was measured, as JSON lines: kept, and not measured again")
    parser.add_argument("--out", type=Path, default=Path("attacks.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made: list[Claim] = []
    rows: list[dict[str, Any]] = []
    with OPEN:
        for attack in arguments.attacks:
            of_attack = scored if attack == "score" else reconstructed
            found = measured(cases(attack, arguments), of_attack, arguments.rows)
            made += claims_of_score(found) if attack == "score" else claims(attack, found)
            rows += found
    leave(arguments.out, made, rows)


def cases(attack: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    settings = SETTINGS.get(attack, {"": {}})
    named = [name for name in settings if not name or any(part in name for part in arguments.only)]
    return [{"attack": attack, "name": name, "seed": seed} for name in named for seed in arguments.seeds]


def reconstructed(case: dict[str, Any]) -> dict[str, Any]:
    run = {"division": divided, "crafted": opened}[case["attack"]]
    return {"found": dataclasses.asdict(run(case["seed"], SETTINGS[case["attack"]][case["name"]]))}


def claims(attack: str, rows: list[dict[str, Any]]) -> list[Claim]:
    """Print the table of an attack. Returns how many of the training images each setting shows."""
    print("| setting | shown of n (range) | exact | best | median of shown | r (guess) |\n|" + "---|" * 6)
    made = []
    for name in dict.fromkeys(row["name"] for row in rows):
        found = [Recovered(**row["found"]) for row in rows if row["name"] == name]
        print(f"| {name} | {line(found)} |")
        shown, of = sum(one.shown for one in found), sum(one.of for one in found)
        made += [share(f"{attack}, {name}: share of all seeds' training images that are shown", shown, of),
                 over_seeds(f"{attack}, {name}: correlation of the best reconstruction with its image",
                            (one.correlation for one in found))]  # fmt: skip
    return made


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


def scored(case: dict[str, Any], each: int = 6) -> dict[str, Any]:
    """Return how often an answer told a member from a non-member, and what was read of one patient's features."""
    params = oracle.asking(case["seed"], copies="copies.Copies")
    with hospital(params) as at:
        right = [said == member for said, member in told(at, params, each)]
    reading = oracle.asking(case["seed"], fid="fid.FID")
    with hospital(reading) as at:
        return {"right": sum(right), "asked": len(right), "patient": oracle.patient(at, reading)}


def claims_of_score(rows: list[dict[str, Any]]) -> list[Claim]:
    right, asked = (sum(row[name] for row in rows) for name in ("right", "asked"))
    read = [of for row in rows if (of := row["patient"]) and of["error"] < of["next"] / 10]
    return [
        share("score, five copies of an image: told right whether it was trained on", right, asked),
        share("score, a gate in the network: one patient's features read, ten times nearer than the next patient's, "
              "share of the seeds", len(read), len(rows)),
    ]  # fmt: skip


def told(at: Hospital, params: Params, each: int) -> Iterator[tuple[bool, bool]]:
    """Yields what the oracle says, and the truth, of so many members and non-members."""
    for split in ("train", "test"):
        images = at.real.split(split)
        for image, label in list(zip(images.images, images.labels(params.image), strict=True))[:each]:
            yield oracle.member(at, params, image, int(label)), split == "train"


if __name__ == "__main__":
    main()
