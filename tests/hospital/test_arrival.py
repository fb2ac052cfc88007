"""Whatever an honest site's door lets out, the same door at the centre takes: for any counts, any smallest cells."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.hospital.outgoing import arrive, leave
from fedsynth.validation.verdict import SPLITS, withhold

LABELS = ("none", "some", "rare")
COUNTS = st.fixed_dictionaries(
    {label: st.fixed_dictionaries(dict.fromkeys(SPLITS, st.integers(0, 40))) for label in LABELS}
)
SHARE, NUMBER = st.none() | st.floats(0, 1), st.none() | st.floats(-1e6, 1e6)
KNOWN = {"c", "dice", "auroc", "hd95", "north", "vae", "all", "fid", "copies", "copies_pixel", "real", "train",
         "synthetic", "members", "non_members"}  # fmt: skip


def total(counts: dict[str, dict[str, int]], *splits: str) -> int:
    return sum(of[split] for of in counts.values() for split in splits)


@st.composite
def told(draw: Any, counts: dict[str, dict[str, int]]) -> dict[str, Any]:
    """What a site's client gives to the door, of these images."""
    test, held, train = total(counts, "test"), total(counts, "val", "test"), total(counts, "train")
    some = draw(st.integers(0, test))
    metrics = {"dice": draw(SHARE), "auroc": draw(SHARE), "hd95": draw(st.none() | st.floats(0, 50))}
    row = {"use": "c", "name": "local", "trained_on": "north", "model": "", "site": "north", "seed": 1,
           "metrics": metrics, "n": {"dice": test, "auroc": test, "hd95": some}}  # fmt: skip
    v = draw(st.floats(1e-9, 0.2))
    spread = {"use": "c", "model": "vae", "site": "north", "metric": "dice", "names": ["local", "augmented"],
              "covariance": draw(st.none() | st.just([[v, v / 3], [v / 3, 2 * v]])), "n": test}  # fmt: skip

    def number(n: dict[str, int]) -> dict[str, Any]:
        return {end: draw(NUMBER) for end in ("value", "floor", "low", "high")} | {"n": n}

    both = {"real": held + train, "members": train, "non_members": held, "synthetic": 50}
    values = {
        "fid": number({"real": draw(st.integers(0, held)), "train": draw(st.integers(0, train)), "synthetic": 50}),
        "all": number(both),
    }
    moments = {"mean": [0.1, 0.2], "covariance": [[1.0, 0.5], [0.5, 2.0]]}
    sums = {k: moments | {"n": n} for k, n in (("held_out", held), ("train", train)) if n >= 40}
    copies = {"copies_pixel": number({"real": held, "train": train, "synthetic": 50})}
    return {"rows": [row, row | {"seed": 2}], "spread": [spread], "seconds": 1.5,
            "measures": {"fid": {"values": values, "moments": sums}, "copies": {"values": copies, "moments": {}}},
    }  # fmt: skip


@settings(max_examples=400)
@given(data=st.data(), counts=COUNTS, own=st.sampled_from([1, 5, 7, 20]), consortium=st.sampled_from([1, 5, 10]))
def test_what_a_site_lets_out_passes_unchanged_where_it_arrives(data, counts, own, consortium):
    least = max(own, consortium)
    cells = {label: {split: withhold(n, least) for split, n in of.items()} for label, of in counts.items()}
    left = leave("score", data.draw(told(counts)), KNOWN, least, cells)
    there = json.loads(json.dumps(left))
    assert arrive("score", there, KNOWN, consortium, cells) == there


@settings(max_examples=200)
@given(
    data=st.data(), counts=COUNTS, other=st.integers(0, 4), label=st.sampled_from(LABELS), split=st.sampled_from(SPLITS)
)
def test_the_counts_of_an_answer_are_those_that_are_shown(data, counts, other, label, split):
    counts[label][split] = other
    cells = {name: {s: withhold(n, 5) for s, n in of.items()} for name, of in counts.items()}
    left = leave("score", data.draw(told(counts)), KNOWN, 5, cells)
    shown = [n for of in cells.values() for n in of.values() if isinstance(n, int)]
    known = {sum(n for of in cells.values() for s, n in of.items() if s in splits and isinstance(n, int))
             for splits in (("train",), ("val", "test"), SPLITS)}  # fmt: skip
    for measure in left["measures"].values():
        for of in measure["values"].values():
            assert {n for kind, n in of["n"].items() if isinstance(n, int) and kind != "synthetic"} <= known, shown
