"""Processor seconds of `fedsynth validate` and `fedsynth look` on 24 phantoms, and of ingest for each volume of IXI's
size (256 x 256 x 150, int16) brought to 64 x 64 x 64.

    python benchmarks/data_steps.py --out data_steps.json

Commands are whole processes, user and system time. The mean of several is left as evidence, the best printed, because
other load on the machine only adds.
"""

from __future__ import annotations

import argparse
import gzip
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml
from evidence import leave, over_seeds
from scipy import ndimage, sparse

from fedsynth.params import Params
from fedsynth.stages.ingest import ingest

SHAPE, SPACING = (256, 256, 150), (0.94, 0.94, 1.2)
PHANTOMS: dict[str, Any] = {
    "source": {"class_path": "fedsynth.sources.phantom.Phantom", "args": {"sites": {"north": {"images": 24}}}},
    "image": {
        "size": [32, 32],
        "channels": {"t1": "image", "t2": "image", "lesion": "mask"},
        "labels": ["none", "infiltrating", "extra_axial"],
        "empty_labels": ["none"],
    },
    "models": {"vae": {"family": {"class_path": "fedsynth.families.vae.VAE"}, "training": {"rounds": 1, "batch": 8}}},
    "expectations": {"min_images": {"train": 2, "test": 1}},
    "sample": {"images": 12},
    "score": {"uses": {"segmentation": {"class_path": "fedsynth.uses.segmentation.Segmentation"}}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("data_steps.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = [{"what": what, "cpu_s": cpu_s} for what, cpu_s in measure(Path(name), arguments.repeat)]
    leave(arguments.out, [over_seeds(f"{row['what']}: CPU seconds", row["cpu_s"], "s") for row in rows], rows)


def measure(folder: Path, repeat: int) -> Iterator[tuple[str, list[float]]]:
    """Print and yield what was done, and the CPU seconds of each time."""
    (folder / "params.yaml").write_text(yaml.safe_dump(PHANTOMS, sort_keys=False))
    ingest(Params.model_validate(PHANTOMS), folder / "data/sites")
    for command in (["validate", "data/sites/north", "--docs", "docs"], ["look"]):
        taken = [process(folder, command) for _ in range(repeat)]
        print(f"fedsynth {command[0]}, 24 phantoms: {min(taken):.1f} CPU s", flush=True)
        yield f"fedsynth {command[0]} of 24 phantoms", taken
    for masks in (False, True):
        each = [volumes(folder / f"volumes-{masks}-{turn}", masks, 1) for turn in range(repeat)]
        taken, unzipped = ([turn[k] for turn in each] for k in (0, 1))
        said = f"ingest of a volume{' with its mask' * masks}"
        print(f"{said}: {min(taken):.2f} CPU s, {min(unzipped):.2f} of which gunzip", flush=True)
        yield f"{said}, 256 x 256 x 150 to 64 x 64 x 64", taken


def process(folder: Path, command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "fedsynth", *command], cwd=folder, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def volumes(folder: Path, masks: bool, n: int) -> tuple[float, float]:
    """CPU seconds of each of `n` volumes, and of decompressing its files alone."""
    ndimage.label(np.ones(2)), sparse.csr_array((2, 2))  # imported once, whatever the number of volumes
    folder.mkdir()
    files = write_volumes(folder, n)
    lines = [f"{n}-image.nii.gz,{f'{n}-mask.nii.gz' * masks},all,north,s{n},t1" for n in range(n)]
    (folder / "manifest.csv").write_text("\n".join(["image,mask,label,site,subject,modality", *lines]) + "\n")
    channels = {"t1": "image"} | ({"lesion": "mask"} if masks else {})
    image = {"size": [64, 64, 64], "channels": channels, "labels": ["all"], "empty_labels": []}
    source = {"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(folder)}}
    started = time.process_time()
    rows = ingest(Params.model_validate(PHANTOMS | {"source": source, "image": image}), folder / "sets")["north"]
    taken = time.process_time() - started
    if (rows["problem"] != "").any():
        raise RuntimeError(rows["problem"].iloc[0])
    started = time.process_time()
    for path in files[: 1 + masks]:
        gzip.decompress(path.read_bytes())
    return taken / n, time.process_time() - started


def write_volumes(folder: Path, n: int) -> list[Path]:
    """A head with noise and a ball as its mask, as NIfTI with the axes of a sagittal scan."""
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, s) for s in SHAPE], indexing="ij"))
    radius = np.sqrt((places**2).sum(0))
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, SHAPE), 1)
    head = np.where(radius < 0.8, 600 + 200 * np.sin(places[0] * 9) * np.cos(places[1] * 7), 0) + 200 * noise
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2] = SPACING[0], -SPACING[1], SPACING[2]
    affine[:, 3] = (-90, -120, 110, 1)
    for number in range(n):
        nib.save(nib.Nifti1Image(head.clip(0).astype(np.int16), affine), folder / f"{number}-image.nii.gz")
        nib.save(nib.Nifti1Image((radius < 0.2).astype(np.uint8), affine), folder / f"{number}-mask.nii.gz")
    return [folder / "0-image.nii.gz", folder / "0-mask.nii.gz"]


if __name__ == "__main__":
    main()
