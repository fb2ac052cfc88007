"""Bytes that a site sends and receives per round, against image quality: for choosing models.<name>.compression.

    python benchmarks/communication.py --plot docs/images/communication.png

Small phantoms at three sites, the same diffusion model for every scheme, and the real loop and codings in one process
without FLARE. Bytes are those of the arrays as FLARE's own encoder writes them, averaged over the rounds and sites of a
training; a job adds a few kB for itself. FID is to the held-out images of all sites, in the features of a classifier
trained on all real training images. One process, one thread; seconds are CPU seconds of all sites.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from evidence import Claim, leave, measured, over_seeds
from nvflare.app_common.decomposers import numpy_decomposers
from nvflare.fuel.utils import fobs

from fedsynth import params as config
from fedsynth.compression.cast import Cast
from fedsynth.compression.quantize import Quantize
from fedsynth.compression.topk import TopK
from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.measures.fid import fid
from fedsynth.report import curves
from fedsynth.stages.ingest import ingest
from fedsynth.training.coding import Downlink, Received, decode
from fedsynth.training.history import sized
from fedsynth.training.trainer import Trainer

LOWEST, HIGHEST = 0.75, 1.6  # limits of the FID axis; worse values are drawn at the upper edge

# scheme -> compression up, compression down, and the factor that divides the rounds and multiplies the epochs
SCHEMES: dict[str, tuple[Any, Any, float]] = {
    "float32": (None, None, 1),
    "float16": (Cast, Cast, 1),
    "8 bit": (lambda: Quantize(8), lambda: Quantize(8), 1),
    "4 bit": (lambda: Quantize(4), lambda: Quantize(4), 1),
    "4 bit up, 2 bit down": (lambda: Quantize(4), lambda: Quantize(2), 1),
    "2 bit up, 4 bit down": (lambda: Quantize(2), lambda: Quantize(4), 1),
    "2 bit": (lambda: Quantize(2), lambda: Quantize(2), 1),
    "top 1/16 up, 2 bit down": (lambda: TopK(1 / 16), lambda: Quantize(2), 1),
    "half of the rounds": (None, None, 2),
    "half of the rounds, 4 bit": (lambda: Quantize(4), lambda: Quantize(4), 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument("--model", default="diffusion")
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--images", type=int, default=1500, help="synthetic images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", choices=[*SCHEMES], default=[*SCHEMES])
    parser.add_argument("--rows", type=Path, help="a file of JSON lines: what it holds already is not computed again")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path, default=Path("communication.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numpy_decomposers.register()
    params = smaller(arguments)
    sites = images(params)
    features = extractor(params, sites)
    cases = [{"scheme": name, "seed": seed} for name in arguments.only for seed in arguments.seeds]
    rows = measured(
        cases, lambda case: scheme(params, sites, features, case["scheme"], case["seed"], arguments.images),
        arguments.rows,
    )  # fmt: skip
    table = summary(rows)
    print(markdown(table))
    if arguments.plot:
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        arguments.plot.write_bytes(picture(table))
    leave(arguments.out, claims(rows), rows)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what each scheme saves, and its FID beside that of float32 with the same seed."""
    plain = {row["seed"]: row for row in rows if row["scheme"] == "float32"}
    of = {name: [r for r in rows if r["scheme"] == name] for name in dict.fromkeys(row["scheme"] for row in rows)}
    found = [over_seeds("float32: FID", (row["fid"] for row in plain.values()))]
    for name, own in [(name, own) for name, own in of.items() if name != "float32"]:
        beside = [(row, plain[row["seed"]]) for row in own if row["seed"] in plain]
        fewer = [(full["up"] + full["down"]) / (row["up"] + row["down"]) for row, full in beside]
        worse = [100 * (row["fid"] / full["fid"] - 1) for row, full in beside]
        found += [over_seeds(f"{name}: float32's bytes over its own", fewer, "x"),
                  over_seeds(f"{name}: FID beside float32's of the same seed", worse, "%")]  # fmt: skip
    return found


def smaller(arguments: Any) -> config.Params:
    raw = yaml.safe_load(Path(arguments.params).read_text())
    raw["image"]["size"] = [arguments.size] * len(raw["image"]["size"])
    raw["models"] = {"model": raw["models"][arguments.model]}
    for site in raw["source"]["args"]["sites"].values():
        site |= {"images": max(48, site["images"] // 2), "train": None}  # split as all are, so that some are held out
    raw["models"]["model"]["training"] |= {"rounds": arguments.rounds, "epochs": arguments.epochs}
    return config.Params.model_validate(raw)


def images(params: config.Params) -> dict[str, ImageSet]:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        ingest(params, Path(folder))
        loaded = {path.name: ImageSet.load(path) for path in sorted(Path(folder).iterdir())}
        return {site: ImageSet(s.manifest, np.array(s.images)) for site, s in loaded.items()}


def extractor(params: config.Params, sites: dict[str, ImageSet]) -> Callable[[torch.Tensor], np.ndarray]:
    image = params.image
    use = params.score.uses["classification"].build(**image.context())
    pooled = concatenate([s.split("train") for s in sites.values()])
    x, of = torch.tensor(pooled.images), image.index(image.images)
    net = use.fit(x[:, of], x[:, image.index(image.masks)], torch.from_numpy(pooled.labels(image)), 1).eval()

    def features(x: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return np.concatenate([net.embed(part[:, of]).numpy() for part in x.split(200)])

    return features


def scheme(
    params: config.Params, sites: dict[str, ImageSet], features: Any, name: str, seed: int, n: int
) -> dict[str, Any]:
    """Run one training and return its numbers: bytes up and down per round and site, FID, CPU seconds."""
    make_up, make_down, fewer = SCHEMES[name]
    model = params.models["model"].model_copy(deep=True)
    model.training.rounds = round(model.training.rounds / fewer)
    model.training.epochs *= fewer
    began = time.process_time()
    torch.manual_seed(seed)
    family = model.family.build(**params.image.context())
    up, down = make_up and make_up(), make_down and make_down()
    trainers = []
    for number, images in enumerate(sites.values()):
        train = images.split("train")
        x, y = (
            torch.tensor(train.channels(params.image, params.image.generated)),
            torch.from_numpy(train.labels(params.image)),
        )
        own = model.family.build(**params.image.context())
        trainers.append(
            Trainer(own, model.algorithm.build(), model.training, x, y, None, 100 * seed + number, compression=up)
        )
    server, link, received = model.algorithm.build(), Downlink(down), [Received(down) for _ in trainers]
    current = server.prepare({n: p.detach().numpy().copy() for n, p in server.parameters(family).items()})
    sent = {"up": 0, "down": 0}
    for number in range(model.training.rounds):
        message, about = link.encode(current, number, number > 0) if down else (current, {})
        updates = []
        for place, trainer in enumerate(trainers):
            incoming = received[place].decode(message, number, about) if down else message
            torch.manual_seed(1000 * seed + 10 * number + place)
            update = trainer.round(incoming, number)
            difference = update.difference
            if update.coded:
                coded, by = update.coded
                difference = decode(by, coded, {n: a.shape for n, a in incoming.items()})
            updates.append((str(place), update.weight, difference))
            sent["up"] += len(fobs.dumps(update.coded[0] if update.coded else difference))
            sent["down"] += len(fobs.dumps([message, about]))
        change = server.aggregate(updates)
        current = {n: a + change[n] for n, a in current.items()}
    cpu = time.process_time() - began
    with torch.no_grad():
        for key, parameter in server.parameters(family).items():
            parameter.copy_(torch.from_numpy(current[key]))
    drawn = sample(family.eval(), params, n)
    real = torch.tensor(concatenate([s.split(part) for s in sites.values() for part in ("val", "test")]).images)
    # always the rounds of float32, because the bytes of the whole training are compared
    rounds = params.models["model"].training.rounds * len(trainers)
    return {"up": sent["up"] / rounds, "down": sent["down"] / rounds, "fid": fid(features(real), features(drawn)),
            "seconds": cpu}  # fmt: skip


def sample(family: Any, params: config.Params, n: int) -> torch.Tensor:
    """Return n images with classes in equal shares.

    The sites' class shares do not matter here, because every scheme is sampled in the same way.
    """
    y = torch.arange(n) % len(params.image.labels)
    with torch.no_grad():
        drawn = torch.cat(
            [family.sample(part, None, torch.Generator().manual_seed(i)) for i, part in enumerate(y.split(250))]
        )
    whole = torch.zeros(n, len(params.image.channels), *params.image.size)
    whole[:, params.image.index(params.image.generated)] = drawn
    return whole


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a line for each scheme, with means over the seeds.

    `ratio`: FID divided by that of float32 with the same seeds. `low`, `high`: its range over single seeds. `fewer`:
    bytes of float32 divided by those of the scheme.
    """
    found, plain = [], {row["seed"]: row for row in rows if row["scheme"] == "float32"}
    for name in dict.fromkeys(row["scheme"] for row in rows):
        of = {row["seed"]: row for row in rows if row["scheme"] == name and row["seed"] in plain}
        line = {key: float(np.mean([row[key] for row in of.values()])) for key in ("up", "down", "fid", "seconds")}
        ratios = [row["fid"] / plain[seed]["fid"] for seed, row in of.items()]
        line["ratio"] = line["fid"] / float(np.mean([plain[seed]["fid"] for seed in of]))
        line["fewer"] = np.mean([plain[seed]["up"] + plain[seed]["down"] for seed in of]) / (line["up"] + line["down"])
        found.append(line | {"scheme": name, "low": min(ratios), "high": max(ratios), "seeds": len(of)})
    return found


def markdown(table: list[dict[str, Any]]) -> str:
    head = "| scheme | down, a round and site | up | fewer bytes | seeds | FID | to float32 (seed by seed) | CPU s |\n"
    lines = [
        f"| {of['scheme']} | {sized(of['down'])} | {sized(of['up'])} | {of['fewer']:.1f} × | {of['seeds']} |"
        f" {of['fid']:.3f} | {100 * (of['ratio'] - 1):+.0f} % ({100 * (of['low'] - 1):+.0f} to"
        f" {100 * (of['high'] - 1):+.0f}) | {of['seconds']:.0f} |"
        for of in table
    ]
    return head + "|---|---:|---:|---:|---:|---:|---:|---:|\n" + "\n".join(lines)


def picture(table: list[dict[str, Any]]) -> bytes:
    """Plot FID relative to float32 against bytes, as PNG.

    Further left is less traffic, further down are better images; the region of the goal is shaded.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    with curves.plain():
        figure = Figure(figsize=(7.2, 3.9))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.11, right=0.98, bottom=0.15, top=0.96)
        whole = next(of["up"] + of["down"] for of in table if of["scheme"] == "float32") / 1e3
        axes.fill_between([whole / 20, whole / 8], 0, 1.05, color="#00694d", alpha=0.12, linewidth=0)
        axes.annotate(
            "goal: 8 times fewer bytes,\nFID at most 5 % worse",
            (whole / 19, LOWEST + 0.02),
            color="#00694d",
            fontsize=8,
        )
        below = 0
        for of in sorted(table, key=lambda of: of["up"] + of["down"]):
            x, y, off = (of["up"] + of["down"]) / 1e3, min(of["ratio"], HIGHEST), of["ratio"] > HIGHEST
            good = x <= whole / 8 and of["ratio"] <= 1.05
            axes.plot([x, x], [min(of["low"], HIGHEST), min(of["high"], HIGHEST)], color="#5c646d", linewidth=1)
            axes.plot(x, y, "^" if off else "o", color="#00694d" if good else "#5c646d", markersize=7)
            worse = of["ratio"] > 1.05  # labels of schemes that are not worse go below, alternating in height
            below += not worse
            away = -4 if off else 7 if worse else (-32, -18)[below % 2]
            right = x > whole / 1.5
            axes.annotate(
                f"{of['scheme']}: {of['ratio']:.1f}" if off else of["scheme"],
                (x, y),
                xytext=(-9 if right else 9, away),
                textcoords="offset points",
                fontsize=8,
                ha="right" if right else "left",
            )
        ticks = [t for t in (100, 200, 500, 1000, 2000, 5000, 10000) if whole / 20 < t < whole * 1.5]
        axes.set_xscale("log")
        axes.xaxis.set_ticks(ticks, labels=[f"{tick:,}".replace(",", " ") for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(whole / 20, whole * 1.5)
        axes.set_ylim(LOWEST, HIGHEST + 0.05)
        axes.set_xlabel("kB that a site sends and receives, in the mean of the rounds of float32")
        axes.set_ylabel("FID over float32's (and by seed)")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        return curves.saved(figure, format="png", dpi=160)


if __name__ == "__main__":
    main()
