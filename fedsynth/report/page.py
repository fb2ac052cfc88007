"""The report: one page that holds its own pictures and asks nothing of the network, so that it can be mailed, kept and
printed.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedsynth.data import pictures
from fedsynth.data.dataset import ImageSet
from fedsynth.params import Image, Params
from fedsynth.report import curves, tradeoff
from fedsynth.report.by_site import absent, by_class, by_site
from fedsynth.report.datasheet import block
from fedsynth.report.definitions import definitions
from fedsynth.report.measure_tables import measures
from fedsynth.report.use_tables import ends, headline, number, percent, summary_of, use_table
from fedsynth.report.worst_masks import Failure
from fedsynth.training.history import left_out, resumed, sized, traffic
from fedsynth.worth import ratios, worth
from fedsynth.worth.judgement import card, gate_table, readers
from fedsynth.worth.wording import Facts, epsilon_said, is_number

if TYPE_CHECKING:
    from markupsafe import Markup

SHOWN = 6  # images of each class and side


@dataclass
class Trained:
    """What the report shows of one model: its model.json, its history.json and its synthetic set."""

    model: dict[str, Any]
    history: dict[str, Any]
    synthetic: ImageSet


def page(
    params: Params,
    validation: dict[str, Any],
    rows: list[dict[str, Any]],
    models: dict[str, Trained],
    real: ImageSet | None = None,
    simulation: bool = True,
    lineage: dict[str, Any] | None = None,
    facts: Facts | None = None,
    spread: list[dict[str, Any]] | None = None,
    failures: dict[str, list[Failure]] | None = None,
    silent: dict[str, dict[str, str]] | None = None,
    pairs: dict[str, pictures.Pairs] | None = None,
) -> str:
    """The whole page. `rows` and `spread` as in reports/reference.json and reports/score/; `facts` by model as facts.py
    gives them.

    `real` images stand beside the synthetic ones; `failures` are synthetic ones, None: not computed. `lineage` is shown
    as it is: {"git commit": ..., ...}. `silent`: job -> site -> why it gave no answer. `pairs`: by model, where
    channels are given. A model without facts is said to be not judged. Raises ValueError where real images are handed
    over outside of a simulation: they would leave their hospital with the page.
    """
    if not simulation and (real is not None or any(of.real for of in (pairs or {}).values())):
        raise ValueError("real images may be shown in a simulation only; call page() without them")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fedsynth.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        number=number,
        percent=percent,
        duration=duration,
        listed=listed,
        known=is_number,
        ends=ends,
        breakable=breakable,
    )
    beside = side(params, real, "real") if real is not None else {}
    sites, used = list(validation["sites"]), validation["used"]
    return environment.get_template("report.html.j2").render(
        params=params,
        validation=validation,
        sites=sites,
        used=used,
        left_out=[site for site in sites if site not in used],
        absent=absent(validation, silent or {}),
        **judged(params, rows, settled(rows, facts, models, spread), used, models),
        families=[family(params, name, trained, beside, sites) for name, trained in models.items()],
        failures={name: [misfit(params, one) for one in of] for name, of in (failures or {}).items()},
        pairs={name: paired(of) for name, of in (pairs or {}).items()},
        simulation=simulation,
        shown=SHOWN,
        lineage=lineage or {},
        data=data_digest(validation),
        colours=list(enumerate(curves.COLOURS)),
        place={site: i % len(curves.COLOURS) for i, site in enumerate(sites)},
        outlines=dict(zip(params.image.masks, pictures.OUTLINES, strict=False)),
        masks=params.image.masks,
        own_and_found=pictures.OUTLINES[:2],
    )


def judged(
    params: Params, rows: worth.Rows, facts: Facts, used: list[str], models: dict[str, Trained]
) -> dict[str, Any]:
    """What is said of the scores and the measures, for the template."""
    summary = summary_of(facts)
    names, wanted = list(facts), list(params.score.uses)
    uses = [use_table(use, rows, names, used, summary) for use in wanted]
    classes = [by_class(use, rows, names, used, params.consortium.min_cell) for use in wanted]
    jobs = {
        name: f"FLARE job {of.model['job_id']}, weights {of.model['weights_sha256'][:12]}"
        for name, of in models.items()
    }
    measured = measures(facts)
    return {
        "models": names,
        "cards": [card(name, of) for name, of in facts.items()],
        "gates": gate_table(facts),
        "readers": readers(facts, classes, jobs),
        "uses": uses,
        "headlines": [headline(use) for use in uses],
        "definitions": definitions(params, uses, measured),
        "by_class": [table for table in classes if table["lines"]],
        "by_site": [by_site(use, summary, names, used) for use in wanted],
        "measures": measured,
        "epsilons": {name: epsilon_said(of) for name, of in facts.items()},
        "plot": tradeoff.svg(facts, wanted),
        "smallest_gap": ratios.SMALLEST_GAP,
        "not_plotted": tradeoff.missing(tradeoff.points(facts, wanted)),
    }


def settled(rows: worth.Rows, facts: Facts | None, models: Iterable[str], spread: worth.Rows | None = None) -> Facts:
    """The facts of every model of the page, empty where there are none, `uses` with the intervals that rest on
    `spread`.
    """
    of_rows = worth.summary(rows, spread)
    told = {name: (facts or {}).get(name) or {} for name in models}
    return {
        name: of | {"uses": of_rows.get(name) if spread or not of.get("uses") else of["uses"]}
        for name, of in told.items()
    }


def paired(of: pictures.Pairs) -> dict[str, Any]:
    said = f"{len(of.labels)} images, from the left {', '.join(of.labels)}; rows from the top: {'; '.join(of.rows)}"
    return {
        "rows": of.rows,
        "labels": of.labels,
        "src": data_uri(pictures.png(of.picture)),
        "alt": said,
        "real": of.real,
    }


def misfit(params: Params, of: Failure) -> dict[str, str]:
    picture = pictures.misfit(of.image, of.found, params.image)
    return {
        "src": data_uri(pictures.png(picture)),
        "label": of.label,
        "dice": f"{of.dice:.2f}",
        "alt": f"synthetic image of the class {of.label}, its own mask and the one found in it, Dice {of.dice:.2f}",
    }


def family(
    params: Params, name: str, trained: Trained, real: dict[str, dict[str, Any]], sites: list[str]
) -> dict[str, Any]:
    """One model's part of the page: facts, pictures by class (`real` are the other side's, the same for every model),
    curves by player.
    """
    model, history = trained.model, trained.history
    training, rounds = model["training"], len(history["rounds"])
    synthetic = side(params, trained.synthetic, "synthetic")
    return {
        "name": name,
        "kind": block(model["family"]),
        "facts": {
            "algorithm": block(model["algorithm"]),
            "training": f"{rounds} rounds of {training['epochs']:g} local epochs, batches of {training['batch']}",
            **({"compression": coded} if (coded := compression(model)) else {}),
            "time": duration(history["seconds"]),
            "synthetic images": str(len(trained.synthetic)),
            "FLARE job": model["job_id"],
            **({"resumed": goes_on} if (goes_on := resumed(history)) else {}),
            **{f"{site} left out": f"of {why}" for site, why in left_out(history).items()},
            "weights, SHA-256": model["weights_sha256"],
            "fedsynth": model["fedsynth"],
        },
        "sites": model["sites"],
        "traffic": {site: {way: sized(count) for way, count in of.items()} for site, of in traffic(history).items()},
        "rows": list(pictures.rows_of(params.image)),
        "classes": {label: [part[label] for part in (real, synthetic) if part] for label in params.image.labels},
        "curves": curves.losses(history, sites),
    }


def compression(model: dict[str, Any]) -> str:
    """ "up TopK (share = 0.0625), down Quantize (bits = 2)", or nothing."""
    return ", ".join(f"{way} {block(call)}" for way, call in (model.get("compression") or {}).items() if call)


def breakable(name: str) -> Markup:
    """A gate or another long name that may be broken where its parts meet."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([/_@])", r"\1<wbr>", str(escape(name))))


def side(params: Params, images: ImageSet, what: str) -> dict[str, dict[str, Any]]:
    """By class, the same images as in the contact sheet: how many, as a data: URI, in words."""
    drawn = {label: pictures.draw(images, label, SHOWN, params.seed) for label in params.image.labels}
    return {
        label: {
            "what": what,
            "n": len(of),
            "src": data_uri(pictures.png(pictures.sheet(of, params.image))) if len(of) else "",
            "alt": f"{len(of)} {what} images of the class {label}; {rows_said(params.image)}",
        }
        for label, of in drawn.items()
    }


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
