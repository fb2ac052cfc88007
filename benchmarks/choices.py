"""Settings of the default study, tried on phantoms of other seeds: guidance of the diffusion, share of real images.

    python benchmarks/choices.py --seeds 201 202 203 --rows choices.jsonl --out docs/evidence/choices.json

For each seed the sites of params.yaml have other patients, on whose test images nothing is reported elsewhere. The
diffusion is trained once (benchmarks/families.py); with each guidance it draws a set, and the uses' networks that are
trained on it alone are tested at every site. With the set of params.yaml's guidance, `augmented` is trained at the
sites that `--sites` names with each share of real images. Differences are to what params.yaml says, by seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from evidence import Claim, leave, measured, over_seeds
from families import build, load, train

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.params import Params
from fedsynth.stages import sample
from fedsynth.stages.score import balance
from fedsynth.worth.use_networks import SHARES, fit, network, testing, training, uses

GUIDANCE = (1.0, 1.5, 2.0)
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[201])
    parser.add_argument("--model", default="diffusion")
    parser.add_argument("--sites", nargs="+", default=["east", "south"], help="where `augmented` is trained")
    parser.add_argument("--rows", type=Path, help="what was measured, as JSON lines: kept, and not measured again")
    parser.add_argument("--out", type=Path, help="leave the claims for docs/evidence.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = [{"seed": seed} for seed in arguments.seeds]
    kept = measured(
        cases, lambda case: {"scores": tried(case["seed"], arguments.model, arguments.sites)}, arguments.rows
    )
    rows = [row for of in kept for row in of["scores"]]
    found = claims(rows, said(arguments.model))
    for claim in found:
        print(claim)
    if arguments.out:
        leave(arguments.out, found, rows)


def study(seed: int) -> Params:
    return Params.model_validate(yaml.safe_load(Path("params.yaml").read_text()) | {"seed": seed})


def said(model: str) -> dict[str, float]:
    """Return what params.yaml says of each setting; a share that sites choose counts as the first one."""
    params = study(1)
    share = params.score.real_share
    guidance = build(params, params.models[model]).guidance
    return {"guidance": float(guidance), "real_share": SHARES[0] if share == "val" else float(share)}


def tried(seed: int, model: str, few: list[str]) -> list[Row]:
    """Return the headline score of each use with each value of each setting, mean over the sites."""
    params, found = study(seed), []
    with tempfile.TemporaryDirectory() as folder:
        sites = load(params, Path(folder))
        family = build(params, params.models[model])
        train(params, params.models[model], family, sites)
    sets = {}
    for guidance in GUIDANCE:
        family.guidance = guidance
        sets[guidance] = sample.draw(family.eval(), params, model, "benchmark")
        scores = scored(params, sets[guidance], list(sites.values()))
        found += [row(seed, "guidance", guidance, use, score) for use, score in scores.items()]
    drawn = sets[said(model)["guidance"]]
    for share in SHARES:
        each = [augmented(params, drawn, sites[site], share) for site in few]
        found += [row(seed, "real_share", share, use, np.mean([of[use] for of in each])) for use in each[0]]
    return found


def row(seed: int, setting: str, value: float, use: str, score: float) -> Row:
    made = {"seed": seed, "setting": setting, "value": value, "use": use, "score": float(score)}
    print(json.dumps(made), flush=True)
    return made


def scored(params: Params, images: ImageSet, tests: list[ImageSet], weights: np.ndarray | None = None) -> Row:
    """Return by use the headline score of a network trained on `images`, mean over the test images of `tests`."""
    found = {}
    for name, use in uses(params).items():
        net = network(use, fit(use, params, images, 1, weights), 1)
        found[name] = np.mean([use.score(net, *testing(of).tensors(params.image))[0][use.headline] for of in tests])
    return found


def augmented(params: Params, drawn: ImageSet, real: ImageSet, share: float) -> Row:
    own = training(real)
    both = concatenate([own, drawn])
    return scored(params, both, [real], balance(both, len(own), share))


def claims(rows: list[Row], usual: dict[str, float]) -> list[Claim]:
    found = []
    for setting, use in dict.fromkeys((row["setting"], row["use"]) for row in rows):
        of = {
            (row["seed"], row["value"]): row["score"] for row in rows if (row["setting"], row["use"]) == (setting, use)
        }
        seeds, base = sorted({seed for seed, _ in of}), usual[setting]
        found.append(over_seeds(f"{setting} {base:g}: {use}", [of[seed, base] for seed in seeds]))
        found += [
            over_seeds(
                f"{setting} {value:g} instead of {base:g}: {use}", [of[seed, value] - of[seed, base] for seed in seeds]
            )
            for value in sorted({value for _, value in of} - {base})
        ]
    return found


if __name__ == "__main__":
    main()
