"""Worth and cost of a family without a federation, for tuning a block of params.yaml.

    python benchmarks/families.py diffusion --set family.args.guidance=2 --set training.rounds=10 --sheet /tmp/sheet.png

Each site trains in a process of its own with one thread, as in a job; the algorithm's own `aggregate` combines them.
Then the model samples a set, and every use is trained on it and tested on each site's real images of `--on`, beside
`pooled` (all real training images): the validation split, because this is for choosing, and what is chosen on test
images looks better on them than it is; `--on test` is for numbers to be reported. "CPU s" is the sites' own CPU time,
which other load on the machine does not change; a job takes about half of it on two cores. "nearest" is the median
distance (root mean square) of a synthetic image to its nearest training image, divided by that of those real images:
far below 1, the model copies.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from evidence import Claim, leave, measured, over_seeds

from fedsynth import params as config
from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.stages.ingest import ingest
from fedsynth.training.alone import tensors
from fedsynth.training.central_generator import Discriminating, Generating
from fedsynth.training.trainer import Trainer
from nvflare_jobs.exchange.job import steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a key of models in the params file")
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override inside the model's block; value as YAML",
    )
    parser.add_argument("--images", type=int, default=300, help="synthetic images")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of each use's network")
    parser.add_argument("--trainings", type=int, nargs="+", help="seeds of trainings; default: the params file's")
    parser.add_argument("--on", choices=("val", "test"), default="val", help="the split of real images to test on")
    parser.add_argument("--data", type=Path, help="folder of ingested sites; made (and kept) where it is not there")
    parser.add_argument("--sheet", type=Path, help="write a picture: real above synthetic images for each class")
    parser.add_argument("--save", type=Path, help="write the (last) trained parameters (torch.save)")
    parser.add_argument("--load", type=Path, help="take parameters of an earlier --save and train nothing")
    parser.add_argument("--rows", type=Path, help="a file of JSON lines: what it holds already is not computed again")
    parser.add_argument("--out", type=Path, default=Path("families.json"))
    arguments = parser.parse_args()
    params = override(arguments.params, arguments.model, arguments.set)
    sites = load(params, arguments.data or Path(tempfile.mkdtemp()))
    cache = (arguments.data or Path(tempfile.mkdtemp())) / "pooled.json"

    def measure(case: dict[str, Any]) -> dict[str, Any]:
        of = params.model_copy(update={"seed": case["training"]})
        return worth(of, made(of, arguments, sites), sites, arguments, cache)

    rows = measured(({"training": seed} for seed in arguments.trainings or [params.seed]), measure, arguments.rows)
    leave(arguments.out, claims(arguments.model, rows), rows)


def claims(model: str, rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what the sets of several trainings are worth."""
    found = [over_seeds(f"{model}, {use}: share of the score of all real images", (r["retained"][use] for r in rows))
             for use in rows[0]["retained"]]  # fmt: skip
    return [*found, over_seeds(f"{model}: distance to the nearest training image, over that of real images",
                               (row["nearest"] for row in rows))]  # fmt: skip


def made(params: config.Params, arguments: argparse.Namespace, sites: dict[str, ImageSet]) -> Any:
    """Return the trained model."""
    model = params.models[arguments.model]
    family = build(params, model)
    if arguments.load:
        family.load_state_dict(torch.load(arguments.load))
    else:
        train(params, model, family, sites)
    if arguments.save:
        torch.save(family.state_dict(), arguments.save)
    return family.eval()


def worth(
    params: config.Params, family: Any, sites: dict[str, ImageSet], arguments: argparse.Namespace, cache: Path
) -> dict[str, Any]:
    """Sample a set and return what it is worth; `cache`: a file of what `pooled` reaches."""
    torch.set_num_threads(1)
    y, given = wanted(params, sites, arguments.images)
    started = time.perf_counter()
    with torch.no_grad():
        parts = [
            family.sample(
                y[i : i + 100], None if given is None else given[i : i + 100], torch.Generator().manual_seed(i)
            )
            for i in range(0, len(y), 100)
        ]
    drawn = complete(params, torch.cat(parts), given)
    print(f"sampling {len(y)} images: {time.perf_counter() - started:.1f} s")
    away = nearest(params, drawn, sites, arguments.on)
    print("range of the generated images", float(drawn.min()), float(drawn.max()), "nearest", round(away, 3))
    if arguments.sheet:
        sheet(params, drawn, y, sites, arguments.sheet)
    return {"retained": judge(params, drawn, y, sites, arguments.seeds, cache, arguments.on), "nearest": away}


def override(path: str, name: str, changes: list[str]) -> config.Params:
    raw = yaml.safe_load(Path(path).read_text())
    for change in changes:
        key, _, value = change.partition("=")
        place = raw["models"][name]
        *outer, last = key.split(".")
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = yaml.safe_load(value)
    return config.Params.model_validate(raw)


def load(params: config.Params, folder: Path) -> dict[str, ImageSet]:
    source = params.source.build(image=params.image.sourced, seed=params.seed)
    if not all((folder / site).is_dir() for site in source.sites()):
        ingest(params, folder)
    sets = {site: ImageSet.load(folder / site) for site in source.sites()}
    sets = {site: s.where(s.manifest["problem"] == "") for site, s in sets.items()}
    return {site: ImageSet(s.manifest, np.array(s.images)) for site, s in sets.items()}


def build(params: config.Params, model: config.Model) -> Any:
    torch.manual_seed(params.seed)
    return model.family.build(**params.image.context())


def site_process(pipe: Any, params: config.Params, model: config.Model, images: ImageSet, seed: int) -> None:
    torch.set_num_threads(1)
    shown = tensors(images.with_given(params.image), params.image)
    trainer = Trainer(build(params, model), model.algorithm.build(), model.training, *shown, seed)
    while (message := pipe.recv()) is not None:
        number, incoming = message
        pipe.send((trainer.round(incoming, number), resource.getrusage(resource.RUSAGE_SELF)))


def train(params: config.Params, model: config.Model, family: Any, sites: dict[str, ImageSet]) -> None:
    """Run federated rounds over processes; the final parameters are copied to `family`."""
    if model.algorithm.build().job == "exchange":
        exchange(params, model, family, sites)
        return
    pipes: dict[str, Any] = {}
    context = multiprocessing.get_context("fork")
    for number, (site, images) in enumerate(sites.items()):
        pipes[site], theirs = context.Pipe()
        process = context.Process(
            target=site_process, args=(theirs, params, model, images.split("train"), params.seed + number), daemon=True
        )
        process.start()
    server = model.algorithm.build()
    current = server.prepare({n: p.detach().numpy() for n, p in server.parameters(family).items()})
    started, cpu = time.perf_counter(), 0.0
    for number in range(model.training.rounds):
        for pipe in pipes.values():
            pipe.send((number, current))
        replies = {site: pipe.recv() for site, pipe in pipes.items()}
        updates = {site: reply[0] for site, reply in replies.items()}
        change = server.aggregate([(site, u.weight, u.difference) for site, u in updates.items()])
        current = {n: a + change[n] for n, a in current.items()}
        cpu = sum(r.ru_utime + r.ru_stime for _, r in replies.values())
        if number % max(1, model.training.rounds // 8) == 0 or number == model.training.rounds - 1:
            print(
                f"round {number}:",
                {site: {k: round(v, 4) for k, v in u.losses.items()} for site, u in updates.items()},
                flush=True,
            )
    for pipe in pipes.values():
        pipe.send(None)
    size = sum(p.numel() for p in family.parameters())
    print(
        f"training: {size / 1e6:.2f} M parameters, {time.perf_counter() - started:.0f} s, {cpu:.0f} CPU s", flush=True
    )
    with torch.no_grad():
        for name, parameter in server.parameters(family).items():
            parameter.copy_(torch.from_numpy(current[name]))


def exchange(params: config.Params, model: config.Model, family: Any, sites: dict[str, ImageSet]) -> None:
    """Like `train`, for an algorithm with the generator at the centre: one process, one site after the other."""
    torch.set_num_threads(1)
    algorithm, plan, of = (
        model.algorithm.build(),
        model.training,
        {site: tensors(s.split("train"), params.image) for site, s in sites.items()},
    )
    images = {site: float(len(y)) for site, (_, y, _) in of.items()}
    shares = {site: torch.bincount(y, minlength=len(params.image.labels)).tolist() for site, (_, y, _) in of.items()}
    weights = images if algorithm.weighting == "images" else dict.fromkeys(images, 1.0)
    n, started = steps(plan, list(images.values())), time.process_time()
    centre = Generating(family, plan, n, params.seed, weights, shares)
    halves = {
        site: Discriminating(build(params, model), plan, n, params.seed + k, x, y, algorithm.discriminator_steps)
        for k, (site, (x, y, _)) in enumerate(of.items())
    }
    for number in range(plan.rounds):
        for _ in range(n):
            drawn = centre.draw()
            centre.learn({site: half.step(*drawn[site]) for site, half in halves.items()})
        losses = {site: {k: round(v, 4) for k, v in half.means().items()} for site, half in halves.items()}
        if number % max(1, plan.rounds // 8) == 0 or number == plan.rounds - 1:
            print(f"round {number}:", losses, flush=True)
    print(f"training: {n} steps in a round, {time.process_time() - started:.0f} CPU s", flush=True)
    family.load_state_dict({name: torch.from_numpy(a) for name, a in centre.arrays().items()}, strict=False)


def wanted(params: config.Params, sites: dict[str, ImageSet], n: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return n labels in equal shares and, where channels are given, those of a training image of each label's class.

    The given channels are None where there are none.
    """
    y = torch.arange(n) % len(params.image.labels)
    if not params.image.given:
        return y, None
    _, labels, given = tensors(concatenate([s.split("train") for s in sites.values()]), params.image)
    rng = np.random.default_rng(0)
    return y, given[[int(rng.choice(np.flatnonzero(labels.numpy() == k))) for k in y.tolist()]]


def complete(params: config.Params, drawn: torch.Tensor, given: torch.Tensor | None) -> torch.Tensor:
    """Return all channels in their order, with masks thresholded at 0 (to -1 or 1), as the stage `sample` does."""
    image = params.image
    whole = torch.zeros(len(drawn), len(image.channels), *image.size)
    whole[:, image.index(image.generated)] = drawn
    if given is not None:
        whole[:, image.index(image.given)] = given
    masks = image.index(image.masks)
    whole[:, masks] = torch.where(whole[:, masks] > 0, 1.0, -1.0)
    return whole


def judge(
    params: config.Params,
    drawn: torch.Tensor,
    y: torch.Tensor,
    sites: dict[str, ImageSet],
    seeds: int,
    cache: Path,
    on: str,
) -> dict[str, float]:
    """Print what the uses' networks reach. Returns use -> the share of `pooled` that the synthetic set retains."""
    shares = {}
    image, uses = params.image, {n: b.build(**params.image.context()) for n, b in params.score.uses.items()}
    i, m = image.index(image.images), image.index(image.masks)
    pooled = concatenate([s.split("train") for s in sites.values()])
    known = json.loads(cache.read_text()) if cache.is_file() else {}
    for name, use in uses.items():
        scores: dict[str, list[list[float]]] = {"synthetic": [], "pooled": []}
        for seed in range(1, seeds + 1):
            for row, images, labels in (
                ("synthetic", drawn, y),
                ("pooled", torch.from_numpy(pooled.images), torch.from_numpy(pooled.labels(image))),
            ):
                key = f"{name} {seed} {on}"
                if row == "synthetic" or key not in known:
                    net = use.fit(images[:, i], images[:, m], labels, seed)
                    found = []
                    for s in sites.values():
                        test = s.split(on)
                        array = torch.from_numpy(test.images)
                        found.append(
                            use.score(net, array[:, i], array[:, m], torch.from_numpy(test.labels(image)))[0][
                                use.headline
                            ]
                        )
                else:
                    found = known[key]
                if row == "pooled":
                    known[key] = found
                scores[row].append(found)
        means = {row: np.nanmean(np.array(values), 0) for row, values in scores.items()}
        each = {row: [round(float(np.nanmean(v)), 3) for v in values] for row, values in scores.items()}
        shares[name] = retained = float(np.nanmean(means["synthetic"]) / np.nanmean(means["pooled"]))
        print(
            f"{name} ({use.headline}) over {list(sites)}: synthetic {means['synthetic'].round(3)}, pooled"
            f" {means['pooled'].round(3)}, retained {100 * retained:.1f} % (by seed {each})",
            flush=True,
        )
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps(known))
    return shares


def nearest(params: config.Params, drawn: torch.Tensor, sites: dict[str, ImageSet], on: str) -> float:
    i = params.image.index(params.image.images)
    splits = {
        name: torch.from_numpy(concatenate([s.split(name) for s in sites.values()]).images)[:, i].flatten(1)
        for name in ("train", on)
    }
    return float(
        torch.cdist(drawn[:, i].flatten(1), splits["train"]).min(1).values.median()
        / torch.cdist(splits[on], splits["train"]).min(1).values.median()
    )


def sheet(
    params: config.Params, drawn: torch.Tensor, y: torch.Tensor, sites: dict[str, ImageSet], path: Path, n: int = 8
) -> None:
    """Write a picture with a row of real and a row of synthetic images for each class.

    The channels of an image are side by side; volumes show their middle slice.
    """
    from PIL import Image as Picture

    pooled = concatenate([s.split("train") for s in sites.values()])
    real, labels = torch.from_numpy(pooled.images), torch.from_numpy(pooled.labels(params.image))
    rows = []
    for k in range(len(params.image.labels)):
        for images, of in ((real, labels), (drawn, y)):
            some = images[of == k][:n]
            some = some[:, :, some.shape[2] // 2] if some.ndim == 5 else some
            tiles = [np.concatenate(list(image), 1) for image in some.numpy()]
            tiles += [-np.ones_like(tiles[0])] * (n - len(tiles))
            rows.append(np.concatenate([np.pad(t, 1, constant_values=1) for t in tiles], 1))
    array = ((np.concatenate(rows).clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    picture = Picture.fromarray(array)
    zoom = max(1, 1600 // picture.width)
    picture.resize((picture.width * zoom, picture.height * zoom), Picture.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
