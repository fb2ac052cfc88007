"""How often a 95 % interval of a score holds the truth, for patients of 1 to 30 images that are more or less alike.

    python benchmarks/coverage.py --trials 600 --out docs/evidence/coverage.json

24 or 36 patients, whose own shares of images told right vary as the intra-class correlation (ICC) says around .75 or
.9. The interval is the one of the report: a jackknife over patients (stages/score.py), drawn in by
worth/intervals.py. Beside it an interval that takes each image for a patient of its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from evidence import Claim, leave, share

from fedsynth.stages import score
from fedsynth.worth import intervals

PATIENTS = ((24, 0.75), (36, 0.75), (36, 0.9))


class Right:
    """A use whose headline metric is the share of the images that were told right."""

    headline = "right"

    def within(self, metric: str) -> tuple[float, float]:
        return 0.0, 1.0

    def counted(self, table: dict[str, np.ndarray]) -> np.ndarray:
        return np.ones(len(table["y"]), bool)

    def value(self, table: dict[str, np.ndarray]) -> float:
        return float(table["right"].mean())

    def summarise(self, table: dict[str, np.ndarray]) -> tuple[dict[str, float], dict[str, int]]:
        return {"right": self.value(table)}, {"right": len(table["y"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=600)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 3, 10, 30], help="of a patient")
    parser.add_argument("--icc", type=float, nargs="+", default=[0.0, 0.3, 0.6])
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("coverage.json"))
    arguments = parser.parse_args()
    rng, rows = np.random.default_rng(arguments.seed), []
    for images in arguments.images:
        for icc in arguments.icc:
            rows.append({"images": images, "icc": icc} | covered(rng, images, icc, arguments.trials))
            print(rows[-1], flush=True)
    leave(arguments.out, claims(rows), rows)


def covered(rng: np.random.Generator, images: int, icc: float, trials: int) -> dict[str, Any]:
    """Return in how many trials the interval by patients, and the one by images, holds the truth."""
    by_patients = by_images = 0
    for trial in range(trials):
        patients, p = PATIENTS[trial % len(PATIENTS)]
        own = rng.beta(p * (1 - icc) / icc, (1 - p) * (1 - icc) / icc, patients) if icc else np.full(patients, p)
        who = np.repeat(np.arange(patients), images)
        right = rng.random(len(who)) < own[who]
        table = {"right": right, "y": who % 2}
        found = score.covariance(Right(), {"synthetic": [table]}, who, 1)["covariance"][0][0]  # type: ignore[arg-type]
        by_patients += holds(right.mean(), found, p)
        by_images += holds(right.mean(), right.var() / len(right), p)
    return {"trials": trials, "by_patients": by_patients, "by_images": by_images}


def holds(value: float, variance: float, truth: float) -> bool:
    ends = intervals.moved(np.array([value]), np.array([[-1.96], [1.96]]) * variance**0.5)
    return bool(ends[0, 0] <= truth <= ends[1, 0])


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    said = "a 95 % interval of a site's score holds the truth"
    found = [_share(f"{said}, all cases", rows, "by_patients"),
             _share("if each image were a patient, all cases", rows, "by_images")]  # fmt: skip
    for row in rows:
        case = f"{row['images']} images a patient, ICC {row['icc']:g}"
        found += [
            _share(case, [row], "by_patients"),
            _share(f"{case}, if each image were a patient", [row], "by_images"),
        ]
    return found


def _share(said: str, rows: list[dict[str, Any]], which: str) -> Claim:
    return share(said, sum(row[which] for row in rows), sum(row["trials"] for row in rows))


if __name__ == "__main__":
    main()
