"""What the measures and the audit need in memory does not grow with a real set on disk: processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.data.test_memory import FEW, MANY, peak, write

WORK = """
import json, sys
from pathlib import Path
import torch
from fedsynth import measures
from fedsynth.data.dataset import ImageSet
from fedsynth.measures import Measure
from fedsynth.params import Block
from fedsynth.stages.score import fit_synthetic, rows_at_site, seen
from tests.contracts.kinds import classes
from tests.data.test_memory import params
from tests.apart import peak_mib
torch.set_num_threads(1)
made, folder = params(), Path(sys.argv[1])
real = ImageSet.load(folder)
synthetic = real.where([i % 5 == 0 and i < 100 for i in range(len(real))])
synthetic = type(real)(synthetic.manifest.assign(origin="synthetic"), synthetic.images[:] * 0.9)
networks = fit_synthetic(made, synthetic)
family = made.models["vae"].family.build(**made.image.context()).eval()
sight = seen(made, synthetic, networks, folder, real, family, keep=folder / "keep")
fewer = {"Copies": {"most": 60}, "Membership": {"draws": 2, "most": 60, "most_near": 90}}
for kind in classes(measures, Measure):
    block = Block(class_path=f"{kind.__module__}.{kind.__name__}", args=fewer.get(kind.__name__, {}))
    block.build(**made.image.context()).at_site(sight)
rows_at_site(made, "north", real, synthetic, {"synthetic": networks}, folder / "state", "vae")
print(json.dumps([len(real), peak_mib()]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_nine_times_the_real_images_take_hardly_more_memory_to_measure_and_to_audit(tmp_path: Path) -> None:
    few, many = (peak(write(tmp_path / str(n), n), WORK, 1) for n in (FEW, MANY))
    assert many - few < 80, f"{few:.0f} and {many:.0f} MiB: 88 MB more of images"
