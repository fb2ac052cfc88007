"""What a model's scoring leaves in reports/, without a scoring: rows of two uses at two sites, and a few measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SITES = ("north", "south")
# use -> metric -> (north, south), of networks that saw synthetic images alone
SYNTHETIC: dict[str, dict[str, tuple[float | None, float | None]]] = {
    "classification": {"balanced_accuracy": (0.8, 0.7), "ece": (0.05, 0.2), "sensitivity": (0.8, 0.7),
                       "sensitivity.none": (0.9, 0.9), "sensitivity.extra_axial": (0.6, 0.5)},
    "segmentation": {"dice": (0.6, 0.4), "hd95": (3.0, 9.0), "dice.infiltrating": (0.5, None)},
}  # fmt: skip


def rows(name: str, model: str = "", at: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """Rows of one name; `at` is the headline's value by site, default: that of SYNTHETIC."""
    found = []
    for use, metrics in SYNTHETIC.items():
        for i, site in enumerate(SITES):
            values = {m: of[i] for m, of in metrics.items()}
            if at is not None:
                values[next(iter(values))] = at[site]
            on = {"local": site, "augmented": site, "pooled": "all"}.get(name, model)
            found.append(
                {
                    "use": use,
                    "name": name,
                    "trained_on": on,
                    "model": model,
                    "site": site,
                    "seed": 1,
                    "metrics": values,
                    "n": dict.fromkeys(values, 20),
                }
            )
    return found


def measure(
    value: float | None,
    floor: float | None,
    sites: dict[str, tuple[float | None, float | None]],
    better: str = "lower",
    **more: Any,
) -> dict[str, Any]:
    by_site = {s: {"value": v, "floor": f, "low": None, "high": None, "n": {"real": 20}} for s, (v, f) in sites.items()}
    known = {"value": value, "floor": floor, "low": None, "high": None, "n": {"real": 40, "synthetic": 31}, "why": ""}
    return known | {"measure": "m", "better": better, "title": "Title", "text": "What it is.", "sites": by_site} | more


MEASURES = {
    "fid": measure(2.0, 1.0, {"north": (2.2, 1.5), "south": (1.8, 0.5)}, title="FID", low=1.7, high=2.3),
    "coverage": measure(0.8, 0.95, {"north": (0.9, 0.95), "south": (0.7, 0.95)}, "higher", title="coverage"),
    "ms_ssim": measure(0.3, 0.3, {"north": (0.1, 0.3), "south": (0.4, 0.3)}, "floor", title="MS-SSIM"),
    "copies_pixel": measure(0, 0, {"north": (0, 0), "south": (0, 0)}, title="copies, by pixels"),
    "membership_loss_auc": measure(
        None, None, {}, title="membership by loss, AUC", why="the family has no loss for one image"
    ),
}


def judged(root: Path, model: str = "vae", augmented: float = 0.8, **changes: Any) -> None:
    """Write reports/reference.json and reports/score/<model>.json; `changes` are keys of the latter."""
    score = {
        "rows": rows("synthetic", model) + rows("augmented", model, dict.fromkeys(SITES, augmented)),
        "left_out": {},
        "seconds": {},
        "spread": [],
        "extractor": "penultimate layer",
        "measures": MEASURES,
    } | changes
    (root / "reports" / "score").mkdir(parents=True, exist_ok=True)
    real = rows("local", at={"north": 0.7, "south": 0.5}) + rows("pooled", at={"north": 0.9, "south": 0.9})
    (root / "reports" / "reference.json").write_text(json.dumps({"rows": real}))
    (root / "reports" / "score" / f"{model}.json").write_text(json.dumps(score))
