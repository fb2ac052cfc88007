"""Models with given channels, without a federation: PSNR, SSIM and the uses' scores beside the baselines, and the cost.

    python benchmarks/conversion.py --params fedsynth/study/examples/reconstruct.yaml \\
        --set image.derived.t1_low.operator.args.factor=8 --sheets /tmp/sheets

Training is as in benchmarks/families.py, with each site in a process of its own. The measure `Conversion` is computed
on each site's images of `--on`: the validation split, for choosing, or test, for numbers to be reported. The uses'
networks are trained on all sites' images together, in place of the federated ones.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from evidence import Claim, leave, measured, over_seeds
from families import build, load, train

from fedsynth import params as config
from fedsynth.data import pictures
from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.measures import MeasureInputs
from fedsynth.measures.conversion import Conversion
from fedsynth.training import sampling
from fedsynth.worth import use_networks

# what is claimed: a number, that of the baseline (None: it is the number's floor), and the unit
CLAIMED = {
    "likeness to the real channel (PSNR)": ("psnr", None, "dB"),
    "Dice of the lesions that are found in it": ("converted_dice", "baseline_dice", ""),
    "balanced accuracy of the classes that are found in it": ("converted_accuracy", "baseline_accuracy", ""),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="fedsynth/study/examples/convert.yaml")
    parser.add_argument("--models", nargs="*", help="keys of models in the params file; default: all")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override in the params file; value as YAML"
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="of trainings; default: the params file's")
    parser.add_argument("--on", choices=("val", "test"), default="val", help="the split of real images to test on")
    parser.add_argument(
        "--sheets", type=Path, help="folder for a picture of each model: given, generated, real, difference"
    )
    parser.add_argument("--rows", type=Path, help="a file of JSON lines: what it holds already is not computed again")
    parser.add_argument("--out", type=Path, default=Path("conversion.json"))
    arguments = parser.parse_args()
    params = override(arguments.params, arguments.set)
    sites = load(params, Path(tempfile.mkdtemp()))
    torch.set_num_threads(1)
    pooled = concatenate([use_networks.training(s) for s in sites.values()])
    nets = {
        name: (use, use.fit(*pooled.tensors(params.image), seed=1)) for name, use in use_networks.uses(params).items()
    }

    def measure(case: dict[str, Any]) -> dict[str, Any]:
        name, of = case["model"], params.model_copy(update={"seed": case["seed"]})
        family = build(of, params.models[name])
        print(f"\n{name}", flush=True)
        train(of, params.models[name], family, sites)
        if arguments.sheets:
            sheet(params, family, sites, arguments.sheets / f"{name}.png")
        return {"found": judge(params, family.eval(), sites, nets, arguments.on)}

    every = itertools.product(arguments.models or params.models, arguments.seeds or [params.seed])
    rows = measured(({"model": name, "seed": seed} for name, seed in every), measure, arguments.rows)
    leave(arguments.out, claims(rows), rows)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what each model's conversions reach beside the baseline, and how much better than a U-Net's they are."""
    found = []
    for name in dict.fromkeys(row["model"] for row in rows):
        of = {row["seed"]: row["found"] for row in rows if row["model"] == name}
        plain = {row["seed"]: row["found"] for row in rows if row["model"] == "regression"}
        for what, (number, other, unit) in CLAIMED.items():
            if number not in next(iter(of.values())):
                continue
            baselines = [one[other]["value"] if other else one[number]["floor"] for one in of.values()]
            less = [one[number]["value"] - baseline for one, baseline in zip(of.values(), baselines, strict=True)]
            found.append(over_seeds(f"{name}: {what}, less the baseline's", less, unit))
            if name != "regression" and of.keys() <= plain.keys():
                apart = [one[number]["value"] - plain[seed][number]["value"] for seed, one in of.items()]
                found.append(over_seeds(f"{name} instead of a U-Net: {what}", apart, unit))
    return found


def override(path: str, changes: list[str]) -> config.Params:
    raw = yaml.safe_load(Path(path).read_text())
    for change in changes:
        key, _, value = change.partition("=")
        place = raw
        *outer, last = key.split(".")
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = yaml.safe_load(value)
    return config.Params.model_validate(raw)


def judge(params: config.Params, family: Any, sites: dict[str, ImageSet], nets: dict[str, Any], on: str
          ) -> dict[str, dict[str, float]]:  # fmt: skip
    """Print the measure's numbers. Returns number -> its value and that of the baseline, the floor."""
    measure: Conversion = config.Block(class_path="fedsynth.measures.conversion.Conversion").build(
        **params.image.context()
    )
    nothing: Any = None  # no synthetic set and no features: the measure uses neither
    held = {site: use_networks.choosing(s) if on == "val" else use_networks.testing(s) for site, s in sites.items()}
    answers = {
        site: measure.at_site(
            MeasureInputs(params.image, nothing, nothing, nets, held[site], use_networks.training(s), family, seed=1)
        )
        for site, s in sites.items()
    }
    combined = measure.combine(answers, nothing)
    for name, v in combined.items():
        by_site = {site: None if (x := a.values[name].value) is None else round(x, 3) for site, a in answers.items()}
        if v.value is not None:
            print(
                f"{name:18} {v.value:.3f} ({v.low:.3f} to {v.high:.3f}), floor {v.floor:.3f}, {v.n}, {by_site}",
                flush=True,
            )
    return {name: {"value": v.value, "floor": v.floor} for name, v in combined.items() if v.value is not None}


def sheet(params: config.Params, family: Any, sites: dict[str, ImageSet], path: Path) -> None:
    image, tests = params.image, concatenate([s.split("test") for s in sites.values()])
    few = concatenate([pictures.draw(tests, label, 6 // len(image.labels), params.seed) for label in image.labels])
    found = pictures.pairs(image, sampling.convert(family, image, few, params.seed), few)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pictures.png(np.asarray(found.picture)))
    print(f"{path}: rows {found.rows}, columns {found.labels}", flush=True)


if __name__ == "__main__":
    main()
