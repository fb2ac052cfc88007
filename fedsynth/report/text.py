"""The report in Markdown without pictures, for the artifacts of Prefect and MLflow."""

from __future__ import annotations

from typing import Any

from fedsynth.report import mended
from fedsynth.report.by_site import by_site
from fedsynth.report.calibration_table import calibration
from fedsynth.report.definitions import Terms
from fedsynth.report.measure_tables import measures
from fedsynth.report.use_tables import ends, number, percent, summary_of
from fedsynth.worth.judgement import card, gate_table
from fedsynth.worth.wording import Facts, epsilon_said, is_number, total_said


def markdown(
    uses: list[dict[str, Any]],
    facts: Facts,
    sites: list[str],
    classes: list[dict[str, Any]] | None = None,
    terms: Terms | None = None,
    absent: dict[str, str] | None = None,
    roles: dict[str, str] | None = None,
    rehearsed: list[str] | None = None,
    trainings: list[dict[str, Any]] | None = None,
) -> str:
    """Return the report: verdict, changed policies, sites left out, gates, tables of worth, measures, definitions.

    `uses`: from use_table, `classes`: from by_class, `terms`: from definitions, `absent` and `roles`: from by_site,
    `rehearsed`: from worth/rehearsal.py, `trainings`: from trainings_table.py.
    """
    parts = [
        "# May they be promoted?",
        "\n".join(_verdict(model, of) for model, of in facts.items()) or "No model has been judged.",
    ]
    models = list(facts)
    parts += ["\n".join(f"- {plain(said)}." for said in rehearsed)] if rehearsed else []
    parts += ["\n".join(f"- Left out: {plain(site)}: {plain(why)}." for site, why in absent.items())] if absent else []
    parts += ["\n".join(f"- {plain(site)} {plain(said)}." for site, said in roles.items())] if roles else []
    if lines := gate_table(facts):
        rows = [[_code(g["gate"]), g["kind"], *(_gate(g["cells"][m]) for m in models)] for g in lines]
        parts += ["## Gates", table(["gate", "kind", *models], rows)]
    parts += [
        "# What they are worth",
        *(part for use in uses for part in (f"## {plain(use['name'])}", *_worth(use, sites))),
    ]
    parts += [part for of in trainings or [] for part in _trainings(of)]
    parts += ["# By site and by class", *(_by_site(use["name"], facts, models, sites) for use in uses)]
    parts += [part for of in classes or [] if of["lines"] for part in _by_class(of, models, sites)]
    parts += [part for use in uses for part in _calibration(calibration(use["name"], facts), models)]
    found = measures(facts)
    if found["lines"]:
        parts += ["# Measures", table(["measure", *models, "N"], [_measured(line, models) for line in found["lines"]])]
    if found["paired"]:
        rows = [_measured(line, models) for line in found["paired"]]
        parts += ["# Converted beside real images", table(["measure", *models, "N"], rows)]
    parts += [f"Not computed for any model: {', '.join(found['missing'])}."] if found["missing"] else []
    parts += [f"Features: {plain('; '.join(dict.fromkeys(found['extractors'].values())) or 'no extractor is named')}."]
    if lines := mended.table(facts):
        rows = [[of["title"], *(of["cells"][m] for m in models)] for of in lines]
        parts += ["# What the sampler mended", table(["rate", *models], rows)]
    audit = [_measured(line, models) for line in found["audit"]]
    audit.append(["epsilon", *(epsilon_said(facts[m])[0] for m in models), ""])
    audit.append(["epsilon of all trainings so far", *(total_said(facts[m])[0] for m in models), ""])
    parts += ["# What they give away", table(["measure", *models, "N"], audit)]
    how = "\n".join(f"- **{plain(term)}**: {plain(said)}." for term, said in terms or [])
    return "\n\n".join([*parts, *(["# How each number was made", how] if how else [])]) + "\n"


def _trainings(of: dict[str, Any]) -> list[str]:
    rows = [[_code(line["name"]), line["mean"], line["interval"], *line["each"]] for line in of["lines"]]
    head = ["number", "mean", "95 % interval", *of["models"]]
    return [f"## {len(of['models'])} trainings of one model: {plain(', '.join(of['models']))}", table(head, rows)]


def _verdict(model: str, of: dict[str, Any]) -> str:
    found = card(model, of)
    return "\n".join([f"- **{plain(model)} {found['said']}**", *(f"  - {_code(reason)}" for reason in found["reasons"]),
                      *(f"  - warning: {_code(warning)}" for warning in found["warnings"])])  # fmt: skip


def _gate(cell: dict[str, Any]) -> str:
    return f"{cell['said']} ({cell['value']})" if cell["state"] not in ("missing", "unjudged") else cell["said"]


def _worth(use: dict[str, Any], sites: list[str]) -> list[str]:
    """Return the headline metric's table with the shares, then the tables of the other metrics."""
    main, *others = use["tables"]
    shares = [f"retained (of {use['against']})", f"gap closed (to {use['against']})", "gap closed, poorest site"]
    shares += ["synthetic − public"] * bool(use["public"])
    head = [_head(main), "mean", *shares, *(_tested(main, site) for site in sites)]
    rows = [_line(line, [*_judged(line), *[_beyond(line)] * bool(use["public"])], sites) for line in main["lines"]]
    tables = [table(head, rows)]
    return tables + [
        table(
            [_head(t), "mean", *(_tested(t, site) for site in sites)], [_line(line, [], sites) for line in t["lines"]]
        )
        for t in others
    ]


def _head(of: dict[str, Any]) -> str:
    return of["label"] + (", lower is better" if of["lower"] else "")


def _tested(of: dict[str, Any], site: str) -> str:
    return f"{site} (n = {'missing' if of['n'][site] is None else of['n'][site]})"


def _line(line: dict[str, Any], shares: list[str], sites: list[str]) -> list[str]:
    name = f"{line['model']}, {line['name']}" if line["model"] else line["name"]
    at = [_deviating(line["cells"][site], line["std"].get(site)) for site in sites]
    return [name, _deviating(line["mean"], line["mean_std"]), *shares, *at]


def _deviating(value: float | None, deviation: float | None) -> str:
    """Format a value with its standard deviation over the seeds, if there are several."""
    return number(value) + (f" ± {number(deviation)}" if is_number(deviation) else "")


def _judged(line: dict[str, Any]) -> list[str]:
    judged = ["retained", None, None] if line["name"] == "synthetic" else [None, "gap_closed", "gap_closed_poorest"]
    return [_share(line, key) if line["model"] and key else "" for key in judged]


def _share(line: dict[str, Any], key: str) -> str:
    return _bracketed(percent(line["judged"].get(key)), ends(line["intervals"].get(key)))


def _beyond(line: dict[str, Any]) -> str:
    return _bracketed(*line.get("beyond", ("", "")))


def _bracketed(value: str, about: str) -> str:
    return f"{value} ({about})" if about else value


def _calibration(of: dict[str, Any], models: list[str]) -> list[str]:
    """Return the table of calibration errors by group, and the worst of each model; none where none is known."""

    def one(cell: dict[str, Any]) -> str:
        n = f"n = {cell['n']}" if cell["n"] != "" else ""
        return _bracketed(cell["value"], ", ".join(filter(None, (cell["interval"], n))))

    if not of["lines"]:
        return []
    head = [f"{of['use']}, calibration error", "group", *models, *[of["reference"]] * bool(of["reference"])]
    rows = [
        [line["site"], line["group"], *(one(line["cells"][m]) for m in models)]
        + [one(line["beside"])] * bool(of["reference"])
        for line in of["lines"]
    ]
    worst = "; ".join(f"{plain(m)}: {plain(said)}" for m, said in of["worst"].items())
    return [table(head, rows), f"Worst: {worst or 'no group is known'}."]


def _measured(line: dict[str, Any], models: list[str]) -> list[str]:
    def one(cell: dict[str, Any]) -> str:
        floor = f"floor {cell['floor']}" if cell["floor"] else ""
        return _bracketed(cell["value"], "; ".join(filter(None, (cell["interval"], floor))))

    return [line["title"], *(one(line["cells"][m]) for m in models), line["n"]]


def _by_site(use: str, facts: Facts, models: list[str], sites: list[str]) -> str:
    found = by_site(use, summary_of(facts), models, sites)
    head = [
        f"{use}, beside {found['against']}",
        *(f"{model}, {what}" for model in models for what in ("retained", "gap closed")),
    ]
    cells = [[line["cells"][m] for m in models] for line in found["lines"]]
    return table(head, [[site, *(percent(cell[key]) for cell in of for key in ("retained", "gap_closed"))]
                        for site, of in zip(sites, cells, strict=True)])  # fmt: skip


def _by_class(of: dict[str, Any], models: list[str], sites: list[str]) -> list[str]:
    """Return the table of per-class metrics of the networks trained on synthetic images alone, and the worst cells."""
    shown = [
        [line["label"], m, *(_class_cell(line["cells"][(m, s)]) for s in sites)] for line in of["lines"] for m in models
    ]
    worst = [
        f"{plain(m)}: {plain(w['label'])} at {plain(w['site'])} ({number(w['value'])}{w['rest']})"
        for m, w in of["worst"].items()
    ]
    return [
        table([f"{of['use']}, synthetic alone", "model", *sites], shown),
        f"Worst: {'; '.join(worst) or 'no cell is known'}.",
    ]


def _class_cell(cell: dict[str, Any]) -> str:
    return number(cell["value"]) if cell["state"] == "known" else cell["state"]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell if cell == '---' else plain(cell) for cell in line)} |" for line in lines)


def plain(text: str) -> str:
    """Escape text, such as a site's name, for a cell of a Markdown table; code spans keep their other characters."""
    return (
        text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
        if not text.startswith("`")
        else text.replace("|", "\\|")
    )


def _code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"
