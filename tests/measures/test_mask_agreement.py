"""Agreement of masks is 1 where the network finds them, 0 where they lie elsewhere, and is of the images with a mask
alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import MeasureInputs
from fedsynth.measures.mask_agreement import MaskAgreement, agreement
from fedsynth.uses.segmentation import Segmentation
from tests.measures.seen import centre, look, untrained
from tests.sets import tiny_params


class Bright(nn.Module):
    """Finds what is above 0 in the first channel."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1] * self.one


@pytest.fixture(params=[(16, 16), (8, 8, 8)], ids=["2d", "3d"])
def seen(request: pytest.FixtureRequest, tmp_path: Path) -> MeasureInputs:
    """Images that are their masks, and the network that sees so."""
    params = tiny_params(image={"size": request.param})
    plain = look(tmp_path, params, 60, 60)
    held_out, train, synthetic = (
        ImageSet(s.manifest, s.images[:, [2, 2, 2]].copy())
        for s in (plain.held_out, plain.train, plain.synthetic)  # type: ignore[union-attr]
    )
    use = untrained(params)["segmentation"][0]
    return MeasureInputs(
        params.image, synthetic, plain.extractor, {"outlines": (use, Bright())}, held_out, train, seed=1
    )


def test_masks_that_the_network_finds_agree(seen: MeasureInputs) -> None:
    found = MaskAgreement().at_site(seen).values["mask_agreement"]
    lesions = int((seen.held_out.manifest["label"] != "none").sum())  # type: ignore[union-attr]
    assert (found.value, found.floor, found.low, found.high) == (1, 1, 1, 1)
    assert found.n == {"real": lesions, "synthetic": 40}


def test_masks_that_lie_elsewhere_do_not(seen: MeasureInputs) -> None:
    seen.synthetic.images[:, 2] *= -1
    half = seen.synthetic.images[:, 2, : seen.image.size[0] // 2]
    half[:] = -1
    found = MaskAgreement().at_site(seen).values["mask_agreement"]
    assert found.value is not None
    assert found.value < 0.5 < found.floor  # type: ignore[operator]


def test_half_of_a_mask_is_dice_of_a_half(tmp_path: Path) -> None:
    seen = look(tmp_path, tiny_params(), 12, 12)
    seen.synthetic.images[:] = -1
    seen.synthetic.images[0, 2, :4] = 1
    seen.synthetic.images[0, 0, 2:4] = 1
    seen.networks = {"segmentation": (seen.networks["segmentation"][0], Bright())}
    assert agreement(seen, seen.synthetic).tolist() == [pytest.approx(2 * 2 / (4 + 2))]


def test_without_a_segmentation_network_or_a_synthetic_mask_there_is_none(seen: MeasureInputs) -> None:
    seen.networks, networks = {}, seen.networks
    assert MaskAgreement().at_site(seen).values["mask_agreement"].value is None
    seen.networks = networks
    seen.synthetic.images[:, 2] = -1
    assert MaskAgreement().at_site(seen).values["mask_agreement"].value is None


def test_more_sites_do_not_narrow_the_interval_of_the_one_synthetic_set(tmp_path: Path) -> None:
    params = tiny_params()
    use = Segmentation(2, 1, (16, 16))
    sites = {
        name: look(tmp_path, params, 60, 60, site=name, networks={"s": (use, Bright())}) for name in ("north", "east")
    }
    for seen in sites.values():  # the network finds half of them
        seen.synthetic.images[::2, 0] = -1
    answers = {name: MaskAgreement().at_site(seen) for name, seen in sites.items()}
    north, all_sites = (
        answers["north"].values["mask_agreement"],
        MaskAgreement().combine(answers, centre(sites["north"]))["mask_agreement"],
    )
    assert north.low < north.high  # type: ignore[operator]
    found, expected = ([of.value, of.low, of.high] for of in (all_sites, north))
    np.testing.assert_allclose(found, expected)  # type: ignore[arg-type]
