"""Whether a segmentation network trained on real images finds the synthetic masks in the synthetic images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import SHARE, About, Answer, Measure, MeasureInputs, Value
from fedsynth.measures._needs import a_mask, a_use
from fedsynth.measures._statistics import bootstrap

if TYPE_CHECKING:
    from collections.abc import Collection

    from fedsynth.params import Image
    from fedsynth.uses import Use


class MaskAgreement(Measure):
    """Dice between the masks of the synthetic set and the `federated` segmentation network's output for its images.

    The value depends on the synthetic set alone and is the same at every site; the floor is the site's own. None if no
    use is a segmentation.
    """

    about: ClassVar = {
        "mask_agreement": About(
            "higher",
            "mask agreement",
            "Mean Dice between the synthetic masks and what the segmentation network trained on real images finds in"
            " the synthetic images, over the images with a mask; the floor is the same on held-out real images.",
            SHARE,
        ),
    }
    independent = False

    def lacks(self, image: Image, uses: Collection[Use]) -> dict[str, str]:
        from fedsynth.uses.segmentation import Segmentation

        missing = a_mask(image) or a_use(Segmentation, uses)
        return dict.fromkeys(self.about, missing) if missing else {}

    def at_site(self, seen: MeasureInputs) -> Answer:
        held_out = seen.real[0]
        real, made = agreement(seen, held_out), agreement(seen, seen.synthetic)
        counts = {"real": len(real), "synthetic": len(made)}
        if not len(made):
            return Answer({"mask_agreement": Value(None, counts)})
        floor = float(real.mean()) if len(real) else None
        return Answer(
            {"mask_agreement": bootstrap(seen, np.mean, made, purpose="mask_agreement", n=counts, floor=floor)}
        )


def agreement(seen: MeasureInputs, images: ImageSet) -> np.ndarray:
    """Returns (N,) Dice of each image with a mask, averaged over its non-empty mask channels.

    (0,) without a network or masks.
    """
    from fedsynth.uses import of_kind
    from fedsynth.uses.segmentation import Segmentation, dice_of

    network = of_kind(seen.networks, Segmentation)
    if network is None or not seen.image.masks or not len(images):
        return np.array([])
    net = network[1]
    pixels, masks, _ = images.tensors(seen.image)
    dice = dice_of(net, pixels, masks)
    return dice[~np.isnan(dice)]
