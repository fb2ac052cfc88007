"""The site's half: test the networks that the centre sent, train the site's own, and measure the synthetic set.

Only numbers are sent.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nvflare_jobs.site.site import Arrays, Site, arrays_of, main

if TYPE_CHECKING:
    from fedsynth.data.dataset import ImageSet
    from fedsynth.families import Family


def work(site: Site) -> None:
    for received in site.tasks():
        started = time.monotonic()
        found = score(site, received.params)
        site.answer("score", found | {"seconds": round(time.monotonic() - started, 1)})


def score(site: Site, arrays: Arrays) -> dict[str, Any]:
    """Return rows of the table of worth, their covariance, and the measures.

    The nearest pairs stay in the site's state, audit/<model>.
    """
    from fedsynth.data.dataset import synthetic
    from fedsynth.hospital import canaries
    from fedsynth.stages import score
    from fedsynth.training import weights
    from fedsynth.worth import use_networks

    params, name, model = site.params, site.config["name"], site.config["model"]
    drawn = synthetic(params, arrays["set/images"], arrays["set/labels"], name, "job")
    sent = use_networks.by_row(arrays_of(arrays, "net/"))
    family = weights.build_family(model | {"image": params.image.model_dump(mode="json")}, arrays_of(arrays, "model/"))
    tied(site, family, drawn, arrays_of(arrays, "model/"), arrays_of(arrays, "net/federated/"))
    real = site.validated_set()
    groups: list[dict[str, Any]] = []
    kept = site.state / "reference"
    rows, spread = score.rows_at_site(params, site.name, real, drawn, sent, kept, name, site.min_cell, groups)
    flip, keep = tuple(model["training"]["flip"]), site.state / "audit" / name
    noise, retrain = site.gate.policy.privacy.moments, score.retraining(params, model)
    marked = canaries.of_training(params, site.state, name)
    seen = score.seen(
        params, drawn, sent["federated"], site.settings.extractors, real, family, flip, keep, noise, retrain, marked
    )
    found = {"rows": rows, "spread": spread, "calibration": groups}
    return found | {"measures": score.measured_at_site(params, seen)}


def tied(site: Site, family: Family, drawn: ImageSet, model: Arrays, federated: Arrays) -> None:
    """Raise PolicyError where the set, the model or the reference's networks are of no training at this site."""
    from fedsynth.params import Block
    from fedsynth.stages import tied

    floors, name, algorithm = site.gate.policy.floors, site.config["name"], site.config["model"].get("algorithm")
    central = algorithm is not None and Block(**algorithm).build().job == "exchange"  # its model is never at a site
    with site.gate.recorded():
        if site.params.split.only(site.name) != "test":
            tied.trained(floors, site.state / "reference", "", federated)
            if not central:
                tied.trained(floors, site.state / "train", f"{name}-", model)
        tied.drawn(floors, site.params.seeded(site.model_seed), family, drawn, name)


if __name__ == "__main__":
    main(work, "score")
