"""What a version began with, as tags: where the weights were from, their SHA-256, and what they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedsynth.params import names
from fedsynth.registry.lineage import key

DIGESTS = "start.digests."  # start.digests.<site>.<n>: digests of the site's earlier sets, by which it may get stale
IN_ONE, LONGEST = 70, 5000  # digests in a tag, and characters that MLflow takes


def tags(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a version; none where it began with the seed's weights. `about`: its model.json."""
    if not (began := about.get("began")):
        return {}
    found = {
        "start.from": began["from"],
        "start.sha256": began["sha256"],
        "start.trained_on": "; ".join(began["trained_on"])[:LONGEST],
        "start.taken": f"{began['taken']} of {began['of']} parameters",
        "start.weights_sha256": began["weights_sha256"],
    }
    for site, digests in began.get("digests", {}).items():
        for n in range(0, len(digests), IN_ONE):
            found[key(f"{DIGESTS}{names.key(site)}.{n // IN_ONE}")] = ",".join(digests[n : n + IN_ONE])
    return found
