"""The model card: a registered version's description, short and from what the run left in files."""

from __future__ import annotations

import math
from typing import Any

LONGEST = 5000  # characters that MLflow's database keeps of a description


def card(model: dict[str, Any], worth: dict[str, dict[str, Any]]) -> str:
    """Markdown. `model` is its model.json, `worth` what worth.summary says of it by use, empty where it was not scored."""
    image, training = model["image"], model["training"]
    generated = [c for c in image["channels"] if c not in image["given"]]
    sites = ", ".join(f"{site} ({n} images)" for site, n in sorted(model["sites"].items()))
    given = f" from {' + '.join(image['given'])}" if image["given"] else ""
    parts = [
        f"**{model['name']}**: {_last(model['family'])}, trained by {_last(model['algorithm'])} over {len(model['sites'])} sites: {sites}. "
        f"{training['rounds']} rounds of {training['epochs']:g} local epochs; FLARE job `{model['job_id']}`; fedsynth {model['fedsynth']}.",
        f"Makes {' + '.join(generated)} of size {'x'.join(map(str, image['size']))}{given} for the labels {', '.join(image['labels'])}; "
        "values lie in [-1, 1]. For research, not for diagnosis.",
        _table(worth) if worth else "What it is worth has not been measured.",
    ]
    text = "\n\n".join(parts)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _table(worth: dict[str, dict[str, Any]]) -> str:
    columns = {"retained": "retained", "gap_closed": "gap closed", "gap_closed_poorest": "at the poorest site"}
    lines = [f"| use | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {use} | {' | '.join(_percent(of.get(key)) for key in columns)} |" for use, of in worth.items()]
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "not computed" if share is None or not math.isfinite(share) else f"{share:.0%}"


def _last(block: dict[str, Any]) -> str:
    return str(block["class_path"]).rpartition(".")[2]
