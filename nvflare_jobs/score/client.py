"""The site's half: test the networks that the centre sent, train the site's own, and measure the synthetic set.

Only numbers are sent.
"""

import time
from typing import Any

from nvflare_jobs.site.site import Arrays, Site, arrays_of, main


def work(site: Site) -> None:
    real = site.validated_set()
    for received in site.tasks():
        started = time.monotonic()
        found = score(site, real, received.params)
        site.answer("score", found | {"seconds": round(time.monotonic() - started, 1)})


def score(site: Site, real: Any, arrays: Arrays) -> dict[str, Any]:
    """Return rows of the table of worth, their covariance, and the measures.

    The nearest pairs stay in the site's state, audit/<model>.
    """
    from fedsynth.data.dataset import synthetic
    from fedsynth.stages import score
    from fedsynth.training import weights
    from fedsynth.worth import use_networks

    params, name, model = site.params, site.config["name"], site.config["model"]
    drawn = synthetic(params, arrays["set/images"], arrays["set/labels"], name, "job")
    sent = use_networks.by_row(arrays_of(arrays, "net/"))
    rows, spread = score.rows_at_site(params, site.name, real, drawn, sent, site.state / "reference", name)
    family = weights.build_family(model | {"image": params.image.model_dump(mode="json")}, arrays_of(arrays, "model/"))
    flip, keep = tuple(model["training"]["flip"]), site.state / "audit" / name
    seen = score.seen(params, drawn, sent["federated"], site.settings.extractors, real, family, flip, keep)
    return {"rows": rows, "spread": spread, "measures": score.measured_at_site(params, seen)}


if __name__ == "__main__":
    main(work, "score")
