"""The reference `public`: networks trained at the centre on images that cost no patient anything (`score.public`).

A synthetic set that is worth no more than these has learned nothing from the hospitals' images that its uses need.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.errors import UserError
from fedsynth.params import Params, names
from fedsynth.worth.use_networks import Networks, fit, uses


class PublicError(UserError):
    """`score.public` gives no images that the uses can be trained on; the message says what it lacks."""


def fit_public(params: Params, hospitals: Collection[str], folder: Path) -> Networks:
    """Fit networks on all images of `score.public`, whatever their split; none where params.yaml names no such source.

    `folder`: where they are ingested, at the centre. Raises PublicError.
    """
    if params.score.public is None:
        return {}
    images = ingested(params, hospitals, folder)
    fitted: Networks = {}
    for name, use in uses(params).items():
        if not bool(use.all_usable(images.tensors(params.image)[1]).any()):
            raise PublicError(f"score.public has no image that {name} can be trained on: it needs known masks")
        fitted[name] = {seed: fit(use, params, images, seed) for seed in params.score.seeds}
        print(f"{name} trained on {len(images)} public images", flush=True)
    return fitted


def ingested(params: Params, hospitals: Collection[str], folder: Path) -> ImageSet:
    """The usable images of `score.public`, as ingest brings them to the study's channels and size.

    Raises PublicError for a hospital's images, labels that the study does not have, and labels without an image.
    """
    from fedsynth.stages.ingest import ingest_site
    from fedsynth.validation.given import of_source

    assert params.score.public is not None
    source = params.score.public.build(image=params.image.sourced, seed=params.seed)
    for _, wrong in of_source(source, hospitals):
        raise PublicError(f"score.public {wrong}")
    sites = names.keys(source.sites())
    for site in sites:
        ingest_site(params, source, site, folder)
    whole = concatenate([ImageSet.load(folder / key) for key in sites.values()])
    usable = whole.where((whole.manifest["problem"] == "") & whole.manifest["label"].isin(params.image.labels))
    if lacking := [label for label in params.image.labels if label not in set(usable.manifest["label"])]:
        there = ", ".join(sorted(set(whole.manifest["label"]))) or "none"
        raise PublicError(f"score.public has no usable image of {', '.join(lacking)}; its labels are {there}")
    return usable
