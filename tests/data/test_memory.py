"""Memory does not grow with a set that FEDSYNTH_MEMORY has no room for: measured in processes of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fedsynth.data import manifest
from fedsynth.data.stored import Writer
from tests.apart import last_line
from tests.sets import TURNS, row, tiny_params

FEW, MANY, SIZE = 100, 900, [96, 96]  # images of 110 kB: 11 and 99 MB
WORK = """
import json, sys
from pathlib import Path
import torch
from fedsynth.data.dataset import ImageSet
from fedsynth.training.alone import train_alone
from fedsynth.worth.use_networks import fit, network, uses
from tests.data.test_memory import params
from tests.apart import peak_mib
torch.set_num_threads(1)
made, model = params(), params().models["vae"]
real = ImageSet.load(Path(sys.argv[1]))
train_alone(model.family, model.training, made.image, real, 1)
for use in uses(made).values():
    use.judged(network(use, fit(use, made, real, 1), 1), *real.tensors(made.image))
print(json.dumps([len(real), peak_mib()]))
"""


def params():
    uses = {"classification": {"class_path": "fedsynth.uses.classification.Classification", "args": {"steps": 2}}}
    model = tiny_params().models["vae"].model_dump(mode="json")
    model["training"] |= {"rounds": 1, "epochs": 1, "local_steps": 3, "batch": 4}
    image = {**tiny_params().image.model_dump(mode="json"), "size": SIZE}
    return tiny_params(image=image, models={"vae": model}, score={"uses": uses})


def write(folder: Path, n: int) -> Path:
    """A site's set of n random images; of five, three are for training, one is for the test, one for validation."""
    made, rng, rows = params(), np.random.default_rng(0), []
    with Writer(folder / manifest.ARRAY, (len(made.image.channels), *SIZE)) as written:
        for i in range(n):
            image = rng.uniform(-1, 1, (len(made.image.channels), *SIZE)).astype(np.float32)
            image[made.image.index(made.image.masks)] = np.where(image[made.image.index(made.image.masks)] > 0, 1, -1)
            written.add(image)
            rows.append(row(made, "north", i, image, (f"s{i}", TURNS[i % len(TURNS)])))
    manifest.write_rows(folder, manifest.frame(rows))
    return folder


def peak(folder: Path, work: str, megabytes: int) -> float:
    """MiB of a process that does `work` with the set in a folder."""
    # what is freed goes back at once: else the peak follows from the order in which the allocator has grown
    fixed = {"MALLOC_MMAP_THRESHOLD_": "131072"}
    read, found = json.loads(last_line("-c", work, str(folder), FEDSYNTH_MEMORY=str(megabytes), **fixed))
    assert read == len(manifest.read(folder))
    return float(found)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_nine_times_the_images_take_no_more_memory(tmp_path):
    few, many = (write(tmp_path / str(n), n) for n in (FEW, MANY))
    of_few, of_many = (peak(folder, WORK, 1) for folder in (few, many))
    assert of_many - of_few < 60, f"{of_few:.0f} and {of_many:.0f} MiB: 88 MB more of images, which cost 250 in memory"
    assert peak(many, WORK, 2000) - of_few > 120, "in memory, where there is room"
