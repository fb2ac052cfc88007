"""docs/evidence.md: what is claimed, by which command, from how many seeds, made from the files that benchmarks leave.

    python benchmarks/loop.py --out docs/evidence/loop.json    # a benchmark leaves a file
    python benchmarks/evidence.py                              # the page of all files

A benchmark calls `leave` with its claims and its rows. The file has what is needed to repeat it: the command, the day,
the commit, the machine. Nothing on the page is written by hand.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# options that name a place of this machine, which no command repeats
PLACES = {"--out", "--rows", "--keep", "--data", "--plot", "--sheet", "--sheets", "--save"}
FILES, PAGE = ROOT / "docs" / "evidence", ROOT / "docs" / "evidence.md"
HEAD = """\
# Evidence

Each line is a claim, the number that was measured, and how to measure it again. The page is made by
`python benchmarks/evidence.py` from the files in [`evidence/`](evidence), which the benchmarks leave with `--out`;
there are the rows behind each number. An interval is of 95 % unless the claim says otherwise; `n` is the number of
seeds, turns, trials or images. Times are CPU seconds of one machine and are compared within one run only.
"""

SHOWN = "share of all seeds' training images that are shown"
SHORT = {  # what the page begins with: file and claim, in words for who has not read the rest
    ("coverage", "a 95 % interval of a site's score holds the truth, all cases"):
        "a 95 % interval of a site's score holds the truth, 1 to 30 images a patient",
    ("attacks", f"crafted, imprint, 4 rounds of 4 epochs: {SHOWN}"):
        "a hostile centre, crafted weights, no policy at the hospital: training images that it can see",
    ("attacks", f"crafted, patient, against the default policy, 14 rounds: {SHOWN}"):
        "the same, the default policy, an attacker who is patient",
    ("attacks", f"crafted, DP-SGD, epsilon 8: {SHOWN}"): "the same, no policy, differential privacy, epsilon 8",
    ("attacks", "score, five copies of an image: told right whether it was trained on"):
        "no policy: a set of copies of one image tells whether it was trained on",
    ("judges", "classification, trained on all sites: standard deviation over the networks' seeds"):
        "the same real images, another seed of the network that judges: standard deviation of its accuracy",
    ("judges", "segmentation, trained on all sites: standard deviation over the networks' seeds"): "the same, Dice",
    ("choices", "guidance 1 instead of 1.5: classification"):
        "the default diffusion, on phantoms of other seeds: accuracy with guidance 1 less that with 1.5",
    ("choices", "guidance 2 instead of 1.5: classification"): "the same, with guidance 2",
    ("communication", "4 bit up, 2 bit down: float32's bytes over its own"):
        "updates in 4 bits and the model's changes in 2, 8 rounds: times fewer bytes",
    ("communication", "4 bit up, 2 bit down: FID beside float32's of the same seed"): "the same: FID beside float32's",
    ("poisoning", "backdoor, mean: trigger in the images"):
        "one hostile site of five teaches a trigger: how much of it the mean's images have",
    ("poisoning", "backdoor, MedianClip: trigger in the images"): "the same, the rule MedianClip's images",
    ("poisoning", "backdoor, MedianClip: retained, beside a mean of the same seed"):
        "the same, share of the real images' accuracy that the rule retains, less the mean's",
    ("local_steps", "diffusion, equal steps, the most instead of FedAvg: those of the small sites"):
        "sites of unequal size, a diffusion, all take the large site's steps: small sites' held-out images",
    ("local_steps", "diffusion, FedNova instead of FedAvg: those of the small sites"): "the same, FedNova",
    ("heterogeneity", "silos, FedAvg: gap closed"):
        "three sites with one class each, FedAvg: share of the gap between own and all images that a set closes",
    ("conversion", "diffusion: Dice of the lesions that are found in it, less the baseline's"):
        "t2 from t1 by a diffusion: Dice of lesions that are found in it, less that of the mean image",
    ("loop", "images per CPU second of the training loop over those of MONAI's tutorials, 32x32, both fp32"):
        "the training loop beside that of MONAI's tutorials, 32 x 32: images per CPU second",
    ("precision", "diffusion, 32 x 32: CPU time of loss and gradient, bf16 over fp32"):
        "bf16 where the processor has no such instructions, CPU time of a diffusion's step beside fp32",
    ("membership", "diffusion, attack 4 references: AUC on its members"):
        "the audit's attack with reference models on a diffusion that has seen few images often: AUC",
    ("membership", "diffusion, attack 4 references: AUC of the control, which saw none"):
        "the same, on a model that has not seen them",
    ("study", "a model may be promoted: all its required gates hold, share of the runs"):
        "whole runs of the default study in which a model may be promoted",
}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A sentence and its number. `interval`: lower and upper end, or None where it has none; `n`: seeds or turns."""

    claim: str
    number: float
    n: int
    interval: tuple[float, float] | None = None
    unit: str = ""


def over_seeds(claim: str, values: Iterable[float | None], unit: str = "") -> Claim:
    """Return the mean of what each seed gave, with the 95 % interval of Student's t.

    There is none of a single seed, nor where all seeds gave the same: nothing is known then of how they vary.
    """
    from scipy.stats import t

    known = [float(value) for value in values if value is not None]
    middle = statistics.fmean(known) if known else math.nan
    if len(set(known)) < 2:
        return Claim(claim, middle, len(known), None, unit)
    half = float(t.ppf(0.975, len(known) - 1)) * statistics.stdev(known) / len(known) ** 0.5
    return Claim(claim, middle, len(known), (middle - half, middle + half), unit)


def share(claim: str, held: int, n: int) -> Claim:
    """Return held of n, with the exact 95 % interval of Clopper and Pearson (1934)."""
    from fedsynth.measures._attack import clopper_pearson

    return Claim(claim, held / n, n, clopper_pearson(held, n, 0.025))


def measured(
    cases: Iterable[dict[str, Any]], measure: Callable[[dict[str, Any]], dict[str, Any]], kept: Path | None
) -> list[dict[str, Any]]:
    """Return a row for each case: the case, and what `measure` returns for it.

    `kept`: a file of JSON lines that each row is added to; what it holds already of this commit is not measured again.
    """
    known = [json.loads(line) for line in kept.read_text().splitlines()] if kept and kept.is_file() else []
    rows, own = [], {"commit": _commit()}
    for case in cases:
        row = next((row for row in known if (case | own).items() <= row.items()), None)
        if row is None:
            row = case | measure(case) | own
            print(json.dumps({name: of for name, of in row.items() if not isinstance(of, list | dict)}), flush=True)
            if kept:
                with kept.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        rows.append({name: of for name, of in row.items() if name != "commit"})
    return rows


def leave(path: Path, claims: Iterable[Claim], rows: Any) -> None:
    """Write a benchmark's claims, with the rows that they were computed from and what repeats them."""
    program = Path(sys.argv[0]).resolve()
    name = program.relative_to(ROOT) if program.is_relative_to(ROOT) else program.name
    options = [word for i, word in enumerate(sys.argv[1:], 1) if not {word, sys.argv[i - 1]} & PLACES]
    # those that attack and poison need it, because they use tests/, which is not installed
    before = "PYTHONPATH=. " if os.environ.get("PYTHONPATH") == "." else ""
    found = {
        "command": before + shlex.join(["python", str(name), *options]),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "machine": _machine(),
        "claims": [asdict(claim) for claim in claims],
        "rows": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def page(folder: Path) -> str:
    """Returns the page of all files of a folder, in the order of their names."""
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    if not files:
        return HEAD + "\nNo file yet.\n"
    return "\n".join([HEAD, _short(files), *(_section(name, found) for name, found in files.items())])


def _short(files: dict[str, Any]) -> str:
    """The table of the claims of SHORT, of the files that are there. Raises KeyError if a file lacks its claim."""
    rows = []
    for (name, claimed), said in SHORT.items():
        if name in files:
            about = files[name]
            claim = {of["claim"]: of for of in about["claims"]}[claimed] | {"claim": said}
            link = f"[{_title(name)}](#{name.replace('_', '-')})"
            rows.append(_row(**claim, more=(about["date"], about["commit"], link)))
    head = "| claim | number | interval | n | date | commit | command |\n|---|---:|---|---:|---|---|---|\n"
    return "## In short\n\n" + head + "".join(rows) if rows else ""


def _section(name: str, found: dict[str, Any]) -> str:
    return (f"## {_title(name)}\n\n    {found['command']}\n\n"
            f"{found['date']}, commit {found['commit']}, [rows](evidence/{name}.json), on {found['machine']}.\n\n"
            "| claim | number | interval | n |\n|---|---:|---|---:|\n"
            + "".join(_row(**claim) for claim in found["claims"]))  # fmt: skip


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _row(claim: str, number: float, n: int, interval: list[float] | None, unit: str, more: tuple[str, ...] = ()) -> str:
    said = f"{number:.4g} {unit}".strip()
    within = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "none"
    return f"| {' | '.join([claim, said, within, str(n), *more])} |\n"


@cache
def _commit() -> str:
    """The commit, with "+" where tracked files that a benchmark runs differ from it."""
    git = ["git", "-C", str(ROOT)]
    number = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    code = ["fedsynth", "nvflare_jobs", "flows", "benchmarks", "tests", "params.yaml"]
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *code], check=False)
    return number.strip() + ("+" if changed.returncode else "")


def _machine() -> str:
    import torch

    from fedsynth.networks.device import name

    capability = torch.backends.cpu.get_cpu_capability()
    device = name() or f"{os.cpu_count()} cores, {capability}"
    return f"{platform.machine()}, {device}, Python {platform.python_version()}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is another")
    arguments = parser.parse_args()
    text = page(FILES)
    if arguments.check:
        if PAGE.read_text(encoding="utf-8") != text:
            raise SystemExit("docs/evidence.md is not what the files say; run python benchmarks/evidence.py")
        return
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
