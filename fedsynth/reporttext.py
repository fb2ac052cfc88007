"""The report in Markdown, for places that show no page: Prefect's and MLflow's artifacts say the same as index.html."""

from __future__ import annotations

from typing import Any

from fedsynth.judgement import card, gate_table
from fedsynth.measuretable import Facts, epsilon_said, measures
from fedsynth.usetable import ends, number, percent


def markdown(uses: list[dict[str, Any]], facts: Facts, sites: list[str]) -> str:
    """Verdict, gates, table of worth, measures. `uses` are use_table's."""
    parts = ["# May they be promoted?", "\n".join(_verdict(model, of) for model, of in facts.items()) or "No model has been judged."]
    models = list(facts)
    if lines := gate_table(facts):
        rows = [[_code(g["gate"]), g["kind"], *(_gate(g["cells"][m]) for m in models)] for g in lines]
        parts += ["## Gates", table(["gate", "kind", *models], rows)]
    parts += ["# What they are worth", *(part for use in uses for part in (f"## {plain(use['name'])}", _worth(use, sites)))]
    found = measures(facts)
    if found["lines"]:
        parts += ["# Measures", table(["measure", *models], [_measured(line, models) for line in found["lines"]])]
    parts += [f"Not computed for any model: {', '.join(found['missing'])}."] if found["missing"] else []
    audit = [_measured(line, models) for line in found["audit"]]
    audit.append(["epsilon", *(epsilon_said(facts[m])[0] for m in models)])
    return "\n\n".join([*parts, "# What they give away", table(["measure", *models], audit)]) + "\n"


def _verdict(model: str, of: dict[str, Any]) -> str:
    found = card(model, of)
    return "\n".join([f"- **{plain(model)} {found['said']}**", *(f"  - {_code(reason)}" for reason in found["reasons"]),
                      *(f"  - warning: {_code(warning)}" for warning in found["warnings"])])  # fmt: skip


def _gate(cell: dict[str, Any]) -> str:
    return f"{cell['said']} ({cell['value']})" if cell["state"] not in ("missing", "unjudged") else cell["said"]


def _worth(use: dict[str, Any], sites: list[str]) -> str:
    main = use["tables"][0]
    head = [main["label"], "mean", "retained", "gap closed", "poorest site", *sites]
    return table(head, [_line(line, sites) for line in main["lines"]])


def _line(line: dict[str, Any], sites: list[str]) -> list[str]:
    judged = ["retained", None, None] if line["name"] == "synthetic" else [None, "gap_closed", "gap_closed_poorest"]
    shares = [_share(line, key) if line["model"] and key else "" for key in judged]
    name = f"{line['model']}, {line['name']}" if line["model"] else line["name"]
    return [name, number(line["mean"]), *shares, *(number(line["cells"][site]) for site in sites)]


def _share(line: dict[str, Any], key: str) -> str:
    interval = ends(line["intervals"].get(key))
    return percent(line["judged"].get(key)) + (f" ({interval})" if interval else "")


def _measured(line: dict[str, Any], models: list[str]) -> list[str]:
    def one(cell: dict[str, Any]) -> str:
        more = [f"{cell['interval']}" if cell["interval"] else "", f"floor {cell['floor']}" if cell["floor"] else ""]
        return cell["value"] + (f" ({'; '.join(m for m in more if m)})" if any(more) else "")

    return [line["title"], *(one(line["cells"][m]) for m in models)]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell if cell == '---' else plain(cell) for cell in line)} |" for line in lines)


def plain(text: str) -> str:
    """A name of a site is shown and not obeyed, and no bar in it ends a cell."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") if not text.startswith("`") else text.replace("|", "\\|")


def _code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"
