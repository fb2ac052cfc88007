"""Counts of a site with more images than the measures look at pass its own door and the centre's check."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from fedsynth.hospital import outgoing
from fedsynth.hospital.outgoing.cells import shown
from fedsynth.measures import MeasureInputs
from fedsynth.stages.score import measured_at_site
from nvflare_jobs.centre.asked import Asked
from tests.measures.seen import look
from tests.sets import tiny_params

PARAMS = tiny_params(
    image={"size": [8, 8]},
    sample={"images": 16},
    score={
        "measures": {
            "copies": {"class_path": "fedsynth.measures.copies.Copies"},
            "membership": {"class_path": "fedsynth.measures.membership.Membership", "args": {"most_near": 1000}},
        }
    },
)
COUNTS = {  # of the training and the held-out images that are looked at
    "copies_pixel": {"real": 1000, "train": 1502, "synthetic": 16},
    "copy_power": {"real": 1000, "train": 1000, "synthetic": 16},
    "membership_distance_auc": {"real": 2000, "members": 1000, "non_members": 1000, "synthetic": 16},
    "membership_loss_auc": {"real": 800, "members": 400, "non_members": 400, "synthetic": 16},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[MeasureInputs, dict[str, Any]]:
    """Of 1502 training images and 1008 held-out ones, with what its measures have found."""
    family = PARAMS.models["vae"].family.build(**PARAMS.image.context()).eval()
    seen = look(tmp_path_factory.mktemp("sets"), PARAMS, n=2510, synthetic=16, family=family)
    return seen, measured_at_site(PARAMS, seen)


@pytest.mark.parametrize("small", [False, True], ids=["large cells", "a small cell"])
def test_what_a_large_site_measures_leaves_it_and_arrives(small: bool, site: Any) -> None:
    seen, found = site
    images = pd.concat([seen.held_out.manifest, seen.train.manifest])
    cells = shown(images, PARAMS.image.labels, 5)
    cells["none"]["val"] = "< 5" if small else cells["none"]["val"]
    known = outgoing.vocabulary("score", PARAMS, "north", "vae")
    told = outgoing.leave("score", json.loads(json.dumps({"rows": [], "measures": found})), cells=cells, known=known)
    values = {name: of for measure in told["measures"].values() for name, of in measure["values"].items()}
    for name, n in COUNTS.items():
        assert (values[name]["n"] == n) is not small, name
        assert small or values[name]["value"] is not None
    asked = Asked("score", PARAMS, "vae", frozenset(), {"north": cells})
    arrived = outgoing.arrive("score", json.loads(json.dumps(told)), known, PARAMS.consortium.min_cell, cells)
    assert arrived["measures"] == told["measures"]
    asked._measures("north", arrived["measures"])  # raises Refused for a count that cannot be
