"""Models with given channels, without a federation: PSNR, SSIM and the uses' scores beside the baselines, and the cost.

    python benchmarks/conversion.py --params fedsynth/study/examples/reconstruct.yaml \\
        --set image.derived.t1_low.operator.args.factor=8 --sheets /tmp/sheets

Training is as in benchmarks/families.py, with each site in a process of its own. The measure `Conversion` is computed
on each site's images of `--on`: the validation split, for choosing, or test, for numbers to be reported. The uses'
networks are trained on all sites' images together, in place of the federated ones.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from families import build, load, train

from fedsynth import params as config
from fedsynth.data import pictures
from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.measures import MeasureInputs
from fedsynth.measures.conversion import Conversion
from fedsynth.training import sampling
from fedsynth.worth import use_networks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="fedsynth/study/examples/convert.yaml")
    parser.add_argument("--models", nargs="*", help="keys of models in the params file; default: all")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override in the params file; value as YAML"
    )
    parser.add_argument("--on", choices=("val", "test"), default="val", help="the split of real images to test on")
    parser.add_argument(
        "--sheets", type=Path, help="folder for a picture of each model: given, generated, real, difference"
    )
    arguments = parser.parse_args()
    params = override(arguments.params, arguments.set)
    sites = load(params, Path(tempfile.mkdtemp()))
    torch.set_num_threads(1)
    pooled = concatenate([use_networks.training(s) for s in sites.values()])
    nets = {
        name: (use, use.fit(*pooled.tensors(params.image), seed=1)) for name, use in use_networks.uses(params).items()
    }
    for name in arguments.models or params.models:
        family = build(params, params.models[name])
        print(f"\n{name}", flush=True)
        train(params, params.models[name], family, sites)
        judge(params, family.eval(), sites, nets, arguments.on)
        if arguments.sheets:
            sheet(params, family, sites, arguments.sheets / f"{name}.png")


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


def judge(params: config.Params, family: Any, sites: dict[str, ImageSet], nets: dict[str, Any], on: str) -> None:
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
    for name, v in measure.combine(answers, nothing).items():
        by_site = {site: None if (x := a.values[name].value) is None else round(x, 3) for site, a in answers.items()}
        if v.value is not None:
            print(
                f"{name:18} {v.value:.3f} ({v.low:.3f} to {v.high:.3f}), floor {v.floor:.3f}, {v.n}, {by_site}",
                flush=True,
            )


def sheet(params: config.Params, family: Any, sites: dict[str, ImageSet], path: Path) -> None:
    image, tests = params.image, concatenate([s.split("test") for s in sites.values()])
    few = concatenate([pictures.draw(tests, label, 6 // len(image.labels), params.seed) for label in image.labels])
    found = pictures.pairs(image, sampling.convert(family, image, few, params.seed), few)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pictures.png(np.asarray(found.picture)))
    print(f"{path}: rows {found.rows}, columns {found.labels}", flush=True)


if __name__ == "__main__":
    main()
