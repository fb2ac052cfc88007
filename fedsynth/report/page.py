"""The report as one self-contained HTML page without network access, so that it can be mailed, archived and printed."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedsynth.data import pictures
from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.params import Image, Params
from fedsynth.report import curves, tradeoff, trainings_table
from fedsynth.report.by_site import absent, by_class, by_site, roles
from fedsynth.report.calibration_table import calibration
from fedsynth.report.datasheet import block
from fedsynth.report.definitions import definitions
from fedsynth.report.measure_tables import measures
from fedsynth.report.mended import table as mended
from fedsynth.report.use_tables import ends, headline, number, percent, summary_of, use_table
from fedsynth.report.worst_masks import Failure
from fedsynth.training.history import bounded, left_out, resumed, sized, traffic
from fedsynth.worth import ratios, rehearsal, worth
from fedsynth.worth.judgement import card, gate_table, readers
from fedsynth.worth.wording import Facts, epsilon_said, is_number, local_work, total_said

if TYPE_CHECKING:
    from markupsafe import Markup

SHOWN = 6  # images of each class and side
AT_HEAD = 3  # of each class and side at the head of the page


@dataclass
class Trained:
    """The parts of one model in the report: its model.json, its history.json and its synthetic set."""

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
    """Return the report's HTML page.

    - `rows`, `spread`: from reports/reference.json and reports/score/.
    - `facts`: by model, from worth/facts.py, or from worth/missing.py of one that failed; a model without facts is
      shown as not judged.
    - `real`: real images to show beside the synthetic ones, in simulation only.
    - `lineage`: shown as it is, {"git commit": ..., ...}.
    - `failures`: by model, the synthetic images with the lowest mask agreement; None: not computed.
    - `silent`: job -> site -> why it did not answer.
    - `pairs`: by model, pictures of given and generated channels.

    Raises ValueError if real images are passed outside of a simulation, because they would leave their hospital.
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
    sites, tested = list(validation["sites"]), params.split.testing(validation["used"])
    settled_facts = settled(rows, facts, dict.fromkeys([*(facts or {}), *models]), spread)
    found = judged(params, rows, settled_facts, tested, models)
    return environment.get_template("report.html.j2").render(
        params=params,
        validation=validation,
        sites=sites,
        trained=params.split.training(validation["used"]),
        used=tested,
        left_out=[site for site in sites if site not in validation["used"]],
        absent=absent(validation, silent or {}),
        roles=roles(params.split, validation["used"]),
        rehearsed=rehearsal.of(validation),
        **found,
        look=look(params, real, models, best(found["cards"], settled_facts)),
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
    """Return the template's variables about scores, measures and verdicts."""
    summary = summary_of(facts)
    names, wanted = list(facts), list(params.score.uses)
    uses = [use_table(use, rows, names, used, summary) for use in wanted]
    classes = [by_class(use, rows, names, used, params.consortium.min_cell) for use in wanted]
    jobs = {
        name: f"FLARE job {of.model['job_id']}, weights {of.model['weights_sha256'][:12]}"
        for name, of in models.items()
    }
    measured = measures(facts)
    jobs |= {name: f"{gone['stage']} failed" for name, of in facts.items() if (gone := of.get("missing"))}
    return {
        "models": names,
        "cards": [card(name, of) for name, of in facts.items()],
        "gates": gate_table(facts),
        "readers": readers(facts, classes, jobs),
        "uses": uses,
        "headlines": [headline(use) for use in uses],
        "definitions": definitions(params, uses, measured),
        "calibration": [table for use in wanted if (table := calibration(use, facts))["lines"]],
        "trainings": trainings_table.tables(params, facts),
        "by_class": [table for table in classes if table["lines"]],
        "by_site": [by_site(use, summary, names, used) for use in wanted],
        "measures": measured,
        "mended": mended(facts),
        "epsilons": {name: epsilon_said(of) for name, of in facts.items()},
        "totals": {name: total_said(of) for name, of in facts.items()},
        "plot": tradeoff.svg(facts, wanted),
        "smallest_gap": ratios.SMALLEST_GAP,
        "not_plotted": tradeoff.missing(tradeoff.points(facts, wanted)),
    }


def best(cards: list[dict[str, Any]], facts: Facts) -> str:
    """Return the model to look at first, "" if there is none.

    One that may be promoted comes before others, then the one whose set retains most, as the mean over the uses.
    """
    passed = {card["model"]: bool(card["passed"]) for card in cards}

    def rank(model: str) -> tuple[bool, float]:
        told = [of["retained"] for of in (facts[model].get("uses") or {}).values()]
        return passed.get(model, False), sum(told) / len(told) if told and all(map(is_number, told)) else -1.0

    return max(facts, key=rank, default="")


def look(params: Params, real: ImageSet | None, models: dict[str, Trained], model: str) -> dict[str, Any] | None:
    """Return the pictures at the head of the page: images of each class, real above synthetic ones of the model."""
    if model not in models:
        return None
    sides = {"real": real, "synthetic": models[model].synthetic}
    drawn = {
        what: concatenate([pictures.draw(of, label, AT_HEAD, params.seed) for label in params.image.labels])
        for what, of in sides.items()
        if of is not None
    }
    classes = " · ".join(params.image.labels)
    return {
        "model": model,
        "classes": params.image.labels,
        "each": AT_HEAD,
        "sides": [strip(params, of, what, f", from the left {classes}") for what, of in drawn.items() if len(of)],
    }


def settled(rows: worth.Rows, facts: Facts | None, models: Iterable[str], spread: worth.Rows | None = None) -> Facts:
    """Return the facts of every model on the page, empty for a model without facts.

    `uses` is computed from `rows` and `spread` where `spread` is given or the facts have none.
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
    """Return the page's section of one model: facts, pictures by class, loss curves by player.

    `real`: the pictures of real images by class, the same for every model.
    """
    model, history = trained.model, trained.history
    training, rounds = model["training"], len(history["rounds"])
    synthetic = side(params, trained.synthetic, "synthetic")
    return {
        "name": name,
        "kind": block(model["family"]),
        "facts": {
            "algorithm": block(model["algorithm"]),
            "training": f"{rounds} rounds of {local_work(training)}, batches of {training['batch']}",
            **({"compression": coded} if (coded := compression(model)) else {}),
            **({"robust": block(rule)} if (rule := model.get("robust")) else {}),
            "time": duration(history["seconds"]),
            "synthetic images": str(len(trained.synthetic)),
            "FLARE job": model["job_id"],
            **({"resumed": goes_on} if (goes_on := resumed(history)) else {}),
            **{f"{site} left out": f"of {why}" for site, why in left_out(history).items()},
            **{f"{site} bounded": f"in {why}" for site, why in bounded(history).items()},
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
    """Return the compression as text, "up TopK (share = 0.0625), down Quantize (bits = 2)"; empty if there is none."""
    return ", ".join(f"{way} {block(call)}" for way, call in (model.get("compression") or {}).items() if call)


def breakable(name: str) -> Markup:
    """Return a long name, such as a gate's, as HTML that may break after "/", "_" and "@"."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([/_@])", r"\1<wbr>", str(escape(name))))


def side(params: Params, images: ImageSet, what: str) -> dict[str, dict[str, Any]]:
    """Return by class the images of one side of the page: their number, a data: URI and the alternative text.

    The images are the same as in the contact sheet.
    """
    drawn = {label: pictures.draw(images, label, SHOWN, params.seed) for label in params.image.labels}
    return {label: strip(params, of, what, f" of the class {label}") for label, of in drawn.items()}


def strip(params: Params, of: ImageSet, what: str, which: str) -> dict[str, Any]:
    """Return a row of images: what they are, their number, a data: URI and the alternative text, which says `which`."""
    return {
        "what": what,
        "n": len(of),
        "src": data_uri(pictures.png(pictures.sheet(of, params.image))) if len(of) else "",
        "alt": f"{len(of)} {what} images{which}; {rows_said(params.image)}",
    }


def rows_said(image: Image) -> str:
    rows = list(pictures.rows_of(image))
    said = f"rows from the top: {', '.join(rows)}" if len(rows) > 1 else rows[0]
    return f"{said}; {', '.join(image.masks)} outlined" if image.masks else said


def data_digest(validation: dict[str, Any]) -> str:
    """Return the SHA-256 of the digests of all sites that passed validation."""
    lines = [f"{site} {validation['sites'][site]['digest']}\n" for site in sorted(validation["used"])]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def listed(names: list[str]) -> str:
    """Join names: "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
