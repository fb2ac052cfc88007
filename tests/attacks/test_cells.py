"""A withheld cell given away: two hospitals that differ in it alone must send the same numbers."""

import numpy as np

from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet
from nvflare_jobs.train import job as training
from tests.attacks.hospital import NAME, hospital, study, with_model

PARAMS = with_model(study(images=80, size=8), "vae.VAE", {"channels": [8], "latent": 2}, rounds=1, batch=1)


def numbers(hidden: int) -> dict[str, float]:
    """What leaves beside arrays and losses of a hospital with so many training images of the class `none`."""
    with hospital(PARAMS) as at:
        rows = at.real.manifest
        of_class = np.flatnonzero((rows["label"] == "none") & (rows["split"] == "train"))
        kept = at.real.where(~np.isin(np.arange(len(rows)), of_class[hidden:]))
        folder = at.folder / "data" / NAME
        manifest.write(folder, kept.manifest.assign(index=range(len(kept))), np.array(kept.images))
        at.real = ImageSet.load(folder)
        at.train(PARAMS, [training.begin(PARAMS, "attacked")])
        (message,) = at.sent
        return {name: value for name, value in message.metrics.items() if not name.startswith("loss")} | {
            name: value for name, value in message.meta.items() if isinstance(value, int | float)
        }


def test_the_weight_does_not_tell_a_withheld_cell():
    assert numbers(2)["weight"] == numbers(4)["weight"]


def test_no_number_tells_a_withheld_cell():
    assert numbers(2) == numbers(4)
