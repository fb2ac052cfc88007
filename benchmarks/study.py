"""Whole runs of the default study, from images to the report: what each seed's sets are worth, and what a run costs.

    python benchmarks/study.py --seeds 1 2 3 4 5 --rows study.jsonl --out docs/evidence/study.json

Each seed is a study of its own, made by `fedsynth init`, with its own images, networks and trainings. CPU seconds are
those of the whole process tree, after its last process has ended.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from evidence import Claim, leave, measured, over_seeds, share
from peers import PR_SET_CHILD_SUBREAPER, environment, spent

SHARES = {"retained": "retains of pooled, above chance", "gap_closed_poorest": "gap closed at the poorest site"}
AUDIT = ("membership_auc", "membership_distance_auc", "membership_loss_auc", "copies_pixel")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--example", default="phantom")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--rows", type=Path, help="a file of JSON lines: what it holds already is not run again")
    parser.add_argument("--keep", type=Path, help="folder to keep the studies in")
    parser.add_argument("--out", type=Path, default=Path("study.json"))
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what outlives its parent becomes this process's child
    with tempfile.TemporaryDirectory() as folder:
        studies = (arguments.keep or Path(folder)).resolve()
        seeds = [{"seed": seed} for seed in arguments.seeds]
        rows = measured(
            seeds, lambda case: run(arguments.example, case["seed"], studies / f"seed-{case['seed']}"), arguments.rows
        )
    leave(arguments.out, claims(rows), rows)


def run(example: str, seed: int, study: Path) -> dict[str, Any]:
    """Make a study, run it, and return its numbers."""
    own = [sys.executable, "-m", "fedsynth"]
    study.parent.mkdir(parents=True, exist_ok=True)
    made = [*own, "init", str(study), "--example", example]
    subprocess.run(made, env=environment(), check=True, capture_output=True)
    params = study / "params.yaml"
    params.write_text(re.sub(r"^seed: \d+", f"seed: {seed}", params.read_text(), flags=re.MULTILINE))
    cost = spent([*own, "run"], study, "run", None)
    reports = study / "reports"
    scores = pd.read_csv(reports / "plots" / "worth.csv")
    return {
        "cpu_s": round(cost["cpu_s"], 1),
        "wall_s": round(cost["wall_s"], 1),
        "mib": round(cost["mib"]),
        "worth": json.loads((reports / "worth.json").read_text()),
        "passed": {name: of["passed"] for name, of in json.loads((reports / "verdict.json").read_text()).items()},
        "references": scores[scores["name"].isin(["local", "pooled"])].drop(columns="model").to_dict("records"),
    }


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what the seeds say together, each with the 95 % interval of Student's t over them."""
    found = [over_seeds("CPU seconds of a whole run", (row["cpu_s"] for row in rows), "s"),
             over_seeds("peak memory of a whole run", (row["mib"] for row in rows), "MiB")]  # fmt: skip
    scores = pd.concat(pd.DataFrame(row["references"]).assign(seed=row["seed"]) for row in rows)
    apart = scores.pivot_table(index=["use", "site", "seed"], columns="name", values="value")
    for (use, site), of in (apart["pooled"] - apart["local"]).groupby(level=["use", "site"], sort=False):
        found.append(over_seeds(f"{use}: pooled less local at {site}", of))
    best = [any(row["passed"].values()) for row in rows]
    found.append(_share("a model may be promoted: all its required gates hold", best))
    for model in rows[0]["worth"]:
        found.append(_share(f"{model}: all required gates hold", [row["passed"][model] for row in rows]))
        worth = [row["worth"][model] for row in rows]
        for use in apart.index.unique("use"):
            for key, said in SHARES.items():
                found.append(over_seeds(f"{model}, {use}: {said}", (of[use].get(key) for of in worth)))
        found += [over_seeds(f"{model}: {name}", (of["measures"].get(name) for of in worth)) for name in AUDIT]
    return found


def _share(said: str, held: list[bool]) -> Claim:
    return share(f"{said}, share of the runs", sum(held), len(held))


if __name__ == "__main__":
    main()
