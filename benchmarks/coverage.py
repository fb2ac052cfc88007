"""How often a 95 % interval of a score holds the truth, for patients of 1 to 30 images that are more or less alike.

    PYTHONPATH=. python benchmarks/coverage.py --trials 600 --out docs/evidence/coverage.json

24 or 36 patients, whose own shares of images told right vary as the intra-class correlation (ICC) says around a truth
between .6 and .95, another in each trial (tests/covering.py). With one image a patient there is no ICC. Beside it an
interval that takes each image for a patient of its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from evidence import Claim, leave, share

from tests.covering import PATIENTS, covered, exactly


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
        for icc in arguments.icc if images > 1 else [None]:
            found = covered(rng, images, icc or 0.0, arguments.trials)
            held = dict(zip(("by_patients", "by_images"), found, strict=True))
            rows.append({"images": images, "icc": icc, "trials": arguments.trials} | held)
            print(rows[-1], flush=True)
    leave(arguments.out, claims(rows), rows)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    said = "a 95 % interval of a site's score holds the truth"
    found = [_share(f"{said}, all cases", rows, "by_patients"),
             _share("if each image were a patient, all cases", rows, "by_images")]  # fmt: skip
    found += [Claim(f"{n} patients of one image, by the binomial law", exactly(n), 0) for n in PATIENTS]
    for row in rows:
        case = "1 image a patient" if row["icc"] is None else f"{row['images']} images a patient, ICC {row['icc']:g}"
        found += [_share(case, [row], "by_patients"),
                  _share(f"{case}, if each image were a patient", [row], "by_images")]  # fmt: skip
    return found


def _share(said: str, rows: list[dict[str, Any]], which: str) -> Claim:
    return share(said, sum(row[which] for row in rows), sum(row["trials"] for row in rows))


if __name__ == "__main__":
    main()
