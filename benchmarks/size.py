"""Peak memory and seconds of the stages that read a hospital's whole set, by the number of its images.

    python benchmarks/size.py --images 500 1000 2000 --size 256 --out docs/evidence/size.json

One site of phantoms with two image channels and a mask. Each stage runs in a process of its own, with tiny networks, so
that images decide what it costs: "ingest", "verify" (a set is loaded, every pixel held against its hash), "validate"
(the expectations of a validation job), "train" (a VAE, 20 steps), "reference" (networks of both uses, 20 steps each,
then judged on the test images), "sample" (a set of as many images is drawn and written), "export" (that set as PNG and
.npz, and their archives). "files" writes the images as .npy files, three of each, from which "from_files" ingests them;
"append" then ingests a hundredth more. Memory is the peak of the process's resident set, "of a worker" that of the
largest process that it has started; what Python and torch need without an image is the row "nothing". "score"
(all measures and the privacy audit of a synthetic set of 300 other phantoms, and of a VAE) and "augmented" (networks of
both uses on real and synthetic images together, 20 steps each, judged beside those of the reference) are what a score
job does at a site. "passes", "persistent" and "cache" read all images twice in random batches of 8: from our set, and
from the .npy files by MONAI's PersistentDataset, whose cache the first pass writes, and its CacheDataset.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from evidence import Claim, leave
from evidence import measured as timed

from fedsynth.data.dataset import ImageSet
from fedsynth.params import Params

SYNTHETIC = 300  # images of the set that is scored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--size", type=int, nargs="+", default=[256], help="a side, or three for volumes")
    parser.add_argument("--memory", type=int, default=256, help="FEDSYNTH_MEMORY, megabytes")
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--rows", type=Path, help="what was measured, as JSON lines: kept, and not measured again")
    parser.add_argument("--out", type=Path, help="leave the claims for docs/evidence.md")
    parser.add_argument("--stage", nargs=2, metavar=("STAGE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = arguments.size * 2 if len(arguments.size) == 1 else arguments.size
    if arguments.stage:
        stage, folder = arguments.stage
        print(json.dumps(measured(STAGES[stage], study(size, arguments.images[0]), Path(folder))))
        return
    stages = list(dict.fromkeys(["ingest", *arguments.stages]))
    cases = [{"images": n, "size": size, "memory": arguments.memory, "of": " ".join(stages)} for n in arguments.images]
    kept = timed(cases, lambda case: {"stages": by_stage(case["images"], stages, size, arguments)}, arguments.rows)
    rows = [{"images": of["images"]} | row for of in kept for row in of["stages"]]
    if arguments.out:
        leave(arguments.out, claims(rows), rows)


def by_stage(n: int, stages: list[str], size: list[int], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what each stage has measured on one set of n images."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            ingest(study(size, SYNTHETIC, seed=2), Path(folder) / "made")
        for stage in stages:
            rows.append({"stage": stage} | apart(stage, n, arguments, folder))
            print(n, json.dumps(rows[-1]), flush=True)
    return rows


def apart(stage: str, n: int, arguments: argparse.Namespace, folder: str) -> dict[str, float]:
    """Return what a stage has measured in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--images",
        str(n),
        "--size",
        *map(str, arguments.size),
        "--stage",
        stage,
        folder,
    ]
    environment = os.environ | {"FEDSYNTH_MEMORY": str(arguments.memory)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(stage: Callable[[Params, Path], None], params: Params, folder: Path) -> dict[str, float]:
    torch.set_num_threads(1)
    began, cpu = time.perf_counter(), cpu_s()
    with contextlib.redirect_stdout(io.StringIO()):
        stage(params, folder)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())  # of this program, not of its parent
    assert peak is not None
    return {
        "MiB": round(int(peak[1]) / 1024),
        "MiB of a worker": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "s": round(time.perf_counter() - began, 1),
        "CPU s": round(cpu_s() - cpu, 1),
    }


def cpu_s() -> float:
    """Return the CPU seconds of this process and of those that it has started, once they have ended."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def study(size: list[int], n: int, seed: int = 1) -> Params:
    """Return a study of one site with n phantoms, and networks as small as they can be."""
    uses: dict[str, Any] = {
        "classification": {"args": {"steps": 20, "features": 8}},
        "segmentation": {"args": {"steps": 20, "width": 4}},
    }
    for name, block in uses.items():
        block["class_path"] = f"fedsynth.uses.{name}.{name.title()}"
    return Params.model_validate(
        {
            "source": {"class_path": "fedsynth.sources.phantom.Phantom", "args": {"sites": {"north": {"images": n}}}},
            "image": {
                "size": size,
                "channels": {"t1": "image", "t2": "image", "lesion": "mask"},
                "labels": ["none", "infiltrating", "extra_axial"],
                "empty_labels": ["none"],
            },
            "models": {
                "vae": {
                    "family": {"class_path": "fedsynth.families.vae.VAE", "args": {"channels": [4, 8], "latent": 4}},
                    "training": {"rounds": 1, "local_steps": 20, "batch": 8},
                }
            },
            "score": {"uses": uses, "measures": measures()},
            "seed": seed,
        }
    )


def measures() -> dict[str, Any]:
    """Return the blocks of all measures that need no more than a study has, as params.yaml names them."""
    kinds = ["FID", "KID", "PRDC", "Frozen", "Texture", "Spectrum", "Intensity", "Geometry", "Copies", "Membership"]
    paths = {kind.lower(): f"{kind.lower()}.{kind}" for kind in kinds}
    paths |= {"ms_ssim": "ms_ssim.MSSSIM", "mask_agreement": "mask_agreement.MaskAgreement"}
    paths["class_agreement"] = "class_agreement.ClassAgreement"
    found: dict[str, Any] = {name: {"class_path": f"fedsynth.measures.{path}"} for name, path in paths.items()}
    found["membership"]["args"] = {"draws": 8, "most": 100}
    return found


def ingest(params: Params, folder: Path) -> None:
    from fedsynth.stages.ingest import ingest

    ingest(params, folder)


def verify(params: Params, folder: Path) -> None:
    ImageSet.load(folder / "north")


def validate(params: Params, folder: Path) -> None:
    from fedsynth.validation import expectations

    expectations.validate(folder / "north", params, "north", folder / "validation")


def train(params: Params, folder: Path) -> None:
    from fedsynth.training.alone import train_alone

    model = params.models["vae"]
    train_alone(model.family, model.training, params.image, ImageSet.load(folder / "north").split("train"), 1)


def reference(params: Params, folder: Path) -> None:
    from fedsynth.worth.use_networks import fit, network, testing, training, uses

    real = ImageSet.load(folder / "north")
    for use in uses(params).values():
        net = network(use, fit(use, params, training(real), 1), 1)
        use.judged(net, *testing(real).tensors(params.image))


def sample(params: Params, folder: Path) -> None:
    from fedsynth.stages.sample import write

    params = params.model_copy(deep=True)
    params.sample.images, params.image.empty_labels = params.source.args["sites"]["north"]["images"], []
    write(folder / "synthetic", params.models["vae"].family.build(**params.image.context()), params, "vae", "1")


def export(params: Params, folder: Path) -> None:
    from fedsynth.generation.formats import exporter
    from fedsynth.stages.export import archive

    drawn = ImageSet.load(folder / "synthetic")
    for name in ("png", "npz"):
        (folder / name).mkdir()
        exporter(name).write(drawn, params.image, folder / name)
        archive(folder / name, folder / f"{name}.zip")


def files(params: Params, folder: Path) -> None:
    """Write the images as a folder with a table; a hundredth of them a second time, for "append"."""
    real, rows = ImageSet.load(folder / "north", verify=False), []
    (folder / "files").mkdir()
    for number in range(len(real) + max(1, len(real) // 100)):
        place = number % len(real)
        names = {channel: f"{number:06d}-{channel}.npy" for channel in params.image.channels}
        for (channel, kind), plane in zip(params.image.channels.items(), real.images[place], strict=True):
            np.save(folder / "files" / names[channel], plane > 0 if kind == "mask" else plane)
        same = {
            "mask": names["lesion"],
            "label": real.manifest["label"][place],
            "site": "north",
            "image_id": str(number),
        }
        rows += [{"image": names[c], "modality": c, "subject": f"s{number // 2}"} | same for c in params.image.images]
    pd.DataFrame(rows).to_csv(folder / "all.csv", index=False)


def from_files(params: Params, folder: Path) -> None:
    rows = pd.read_csv(folder / "all.csv", dtype=str)
    n = params.source.args["sites"]["north"]["images"] * len(params.image.images)
    rows[:n].to_csv(folder / "files" / "manifest.csv", index=False)
    _of_files(params, folder)


def append(params: Params, folder: Path) -> None:
    shutil.copy(folder / "all.csv", folder / "files" / "manifest.csv")
    _of_files(params, folder)


def _of_files(params: Params, folder: Path) -> None:
    from fedsynth.stages.ingest import ingest

    source = {"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(folder / "files")}}
    said = params.model_dump(mode="json") | {"source": source}
    ingest(Params.model_validate(said), folder / "again", folder / "state")


def score(params: Params, folder: Path) -> None:
    from fedsynth.stages.score import fit_synthetic, measured_at_site, seen

    synthetic = ImageSet.load(folder / "made" / "north")
    family = params.models["vae"].family.build(**params.image.context()).eval()
    networks = fit_synthetic(params, synthetic)  # in the place of the references'
    measured_at_site(params, seen(params, synthetic, networks, folder, ImageSet.load(folder / "north"), family))


def augmented(params: Params, folder: Path) -> None:
    from fedsynth.stages.score import fit_synthetic, rows_at_site

    real, synthetic = (ImageSet.load(folder / part) for part in ("north", "made/north"))
    sent = {"synthetic": fit_synthetic(params, synthetic)}
    rows_at_site(params, "north", real, synthetic, sent, folder / "state", "vae")


def passes(params: Params, folder: Path) -> None:
    real = ImageSet.load(folder / "north", verify=False)
    twice(len(real), real.planes(params.image, list(params.image.channels)).__getitem__)


def persistent(params: Params, folder: Path) -> None:
    from monai.data.dataset import PersistentDataset

    items, read = of_files(params, folder)
    _passes_of(PersistentDataset(items, read, cache_dir=folder / "persistent"))


def cache(params: Params, folder: Path) -> None:
    from monai.data.dataset import CacheDataset

    items, read = of_files(params, folder)
    _passes_of(CacheDataset(items, read, num_workers=1, progress=False))


def of_files(params: Params, folder: Path) -> tuple[list[dict[str, str]], Callable[[Any], Any]]:
    """Return MONAI's items of the .npy files of "files", and the transform that reads one as `x` (C, *S)."""
    from monai.transforms import Compose, ConcatItemsd, EnsureChannelFirstd, LoadImaged

    names, n = list(params.image.channels), params.source.args["sites"]["north"]["images"]
    items = [{name: str(folder / "files" / f"{i:06d}-{name}.npy") for name in names} for i in range(n)]
    read = [LoadImaged(names, reader="NumpyReader"), EnsureChannelFirstd(names, channel_dim="no_channel")]
    return items, Compose([*read, ConcatItemsd(names, "x")])


def _passes_of(images: Any) -> None:
    twice(len(images), lambda places: torch.stack([torch.as_tensor(images[int(i)]["x"]) for i in places]))


def twice(n: int, read: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Read n images two times in random batches of 8, and touch each."""
    random = torch.Generator().manual_seed(1)
    for places in (of for _ in range(2) for of in torch.randperm(n, generator=random).split(8)):
        read(places).mean()


def nothing(params: Params, folder: Path) -> None:
    """What the modules of the other stages need."""
    from fedsynth.worth.use_networks import uses

    for module in ("stages.ingest", "stages.score", "training.alone", "validation.expectations"):
        importlib.import_module(f"fedsynth.{module}")
    for use in uses(params).values():
        use.network(1)


STAGES: dict[str, Callable[[Params, Path], None]] = {
    of.__name__: of
    for of in (
        nothing,
        ingest,
        verify,
        validate,
        train,
        reference,
        sample,
        export,
        files,
        from_files,
        append,
        score,
        augmented,
        passes,
        persistent,
        cache,
    )
}


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    return [
        claim
        for row in rows
        for claim in (
            Claim(f"{row['stage']}, {row['images']} images: peak memory", row["MiB"], 1, unit="MiB"),
            Claim(f"{row['stage']}, {row['images']} images: CPU time", row["CPU s"], 1, unit="s"),
        )
    ]


if __name__ == "__main__":
    main()
