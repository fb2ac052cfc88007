"""The report: one page that holds its own pictures and asks nothing of the network, so that it can be mailed, kept and printed."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from fedsynth import curves, pictures
from fedsynth.dataset import ImageSet
from fedsynth.datasheet import block
from fedsynth.history import left_out, resumed
from fedsynth.params import Image, Params
from fedsynth.usetable import METRICS, headline, known_number, number, percent, use_table

SHOWN = 6  # images of each class and side


@dataclass
class Trained:
    """What the report shows of one model: its model.json, its history.json and its synthetic set."""

    model: dict[str, Any]
    history: dict[str, Any]
    synthetic: ImageSet


def page(params: Params, validation: dict[str, Any], rows: list[dict[str, Any]], models: dict[str, Trained], real: ImageSet | None = None,
         simulation: bool = True, lineage: dict[str, Any] | None = None) -> str:  # fmt: skip
    """The whole page. `rows` as in reports/reference.json and reports/score/; `real` images stand beside the synthetic ones.

    `lineage` is shown as it is: {"git commit": ..., ...}. Raises ValueError where real images are handed over outside of a simulation:
    they would leave their hospital with the page.
    """
    if real is not None and not simulation:
        raise ValueError("real images may be shown in a simulation only; call page() without them")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fedsynth", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(number=number, percent=percent, duration=duration, listed=listed, known=known_number)
    beside = side(params, real, "real") if real is not None else {}
    sites, used = list(validation["sites"]), validation["used"]
    uses = [use_table(use, rows, list(models), used) for use in params.score.uses]
    metrics = {table["metric"] for use in uses for table in use["tables"]}
    return environment.get_template("report.html.j2").render(
        params=params,
        validation=validation,
        sites=sites,
        used=used,
        left_out=[site for site in sites if site not in used],
        uses=uses,
        headlines=[headline(use) for use in uses],
        definitions=[METRICS[m] for m in METRICS if m in metrics],
        families=[family(params, name, trained, beside, sites) for name, trained in models.items()],
        simulation=simulation,
        shown=SHOWN,
        lineage=lineage or {},
        data=data_digest(validation),
        colours=list(enumerate(curves.COLOURS)),
        place={site: i % len(curves.COLOURS) for i, site in enumerate(sites)},
        outlines=dict(zip(params.image.masks, pictures.OUTLINES, strict=False)),
    )


def family(params: Params, name: str, trained: Trained, real: dict[str, dict[str, Any]], sites: list[str]) -> dict[str, Any]:
    """One model's part of the page: facts, pictures by class (`real` are the other side's, the same for every model), curves by player."""
    model, history = trained.model, trained.history
    training, rounds = model["training"], len(history["rounds"])
    synthetic = side(params, trained.synthetic, "synthetic")
    return {
        "name": name,
        "kind": block(model["family"]),
        "facts": {
            "algorithm": block(model["algorithm"]),
            "training": f"{rounds} rounds of {training['epochs']:g} local epochs, batches of {training['batch']}",
            "time": duration(history["seconds"]),
            "synthetic images": str(len(trained.synthetic)),
            "FLARE job": model["job_id"],
            **({"resumed": goes_on} if (goes_on := resumed(history)) else {}),
            **{f"{site} left out": f"of {why}" for site, why in left_out(history).items()},
            "weights, SHA-256": model["weights_sha256"],
            "fedsynth": model["fedsynth"],
        },
        "sites": model["sites"],
        "rows": list(pictures.rows_of(params.image)),
        "classes": {label: [part[label] for part in (real, synthetic) if part] for label in params.image.labels},
        "curves": curves.losses(history, sites),
    }


def side(params: Params, images: ImageSet, what: str) -> dict[str, dict[str, Any]]:
    """By class, the same images as in the contact sheet: how many, as a data: URI, in words."""
    drawn = {label: pictures.draw(images, label, SHOWN, params.seed) for label in params.image.labels}
    return {
        label: {"what": what, "n": len(of), "src": data_uri(pictures.png(pictures.sheet(of, params.image))) if len(of) else "",
                "alt": f"{len(of)} {what} images of the class {label}; {rows_said(params.image)}"}
        for label, of in drawn.items()
    }  # fmt: skip


def rows_said(image: Image) -> str:
    rows = list(pictures.rows_of(image))
    said = f"rows from the top: {', '.join(rows)}" if len(rows) > 1 else rows[0]
    return f"{said}; {', '.join(image.masks)} outlined" if image.masks else said


def data_digest(validation: dict[str, Any]) -> str:
    """One digest of the data of all sites that took part."""
    lines = [f"{site} {validation['sites'][site]['digest']}\n" for site in sorted(validation["used"])]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def listed(names: list[str]) -> str:
    """ "a", "a and b", "a, b and c" """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
