"""The table of worth for the terminal. Nothing heavy is needed to show it, so that a run keeps it as cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group

    from fedsynth.worth.worth import Rows

GAP, LAST = 2, 4  # between two columns; columns after those of the sites: the mean, and three shares
Cells = tuple[list[str], list[list[str]]]  # a table's head, and its rows


def tables(rows: Rows) -> list[Cells]:
    """Return the table of each use."""
    return [cells(rows, use) for use in dict.fromkeys(r["use"] for r in rows)]


def cells(rows: Rows, use: str) -> Cells:
    """Return the table of one use as text.

    There is a row for each reference, and for each model a `synthetic` and an `augmented` row.
    """
    from fedsynth.worth.worth import TESTS_ONLY, against, headline, summary, table

    scores, metric, worth = table(rows).rename(columns={"name": "kind"}), headline(rows, use), summary(rows)
    scores = scores[(scores.use == use) & (scores.metric == metric)]
    sites, together = list(dict.fromkeys(r["site"] for r in rows if r["use"] == use)), against(rows, use)
    lines = [
        ("local", ""),
        ("federated", ""),
        ("pooled", ""),
        ("public", ""),
        *((kind, model) for model in worth for kind in ("synthetic", "augmented")),
    ]
    out = []
    for kind, model in lines:
        of_line = scores[(scores.kind == kind) & (scores.model == model)].set_index("site")
        if not len(of_line):
            continue
        trained = [site for site in sites if site not in of_line.index or of_line["why"][site] != TESTS_ONLY]
        numbers = of_line["value"].reindex(sites)
        own = worth.get(model, {}).get(use, {})
        share = (
            [own.get("retained"), None, None]
            if kind == "synthetic"
            else [None, own.get("gap_closed"), own.get("gap_closed_poorest")]
        )
        why = [own.get("why", {}).get(key, "") for key in ("retained", "gap_closed", "gap_closed_poorest")]
        measures = [
            _percent(v, why[i]) if model and i in ({0} if kind == "synthetic" else {1, 2}) else ""
            for i, v in enumerate(share)
        ]
        mean = numbers[trained].mean(skipna=False)
        out.append([f"{kind} {model}".strip(), *map(_number, numbers), _number(mean), *measures])
    shares = [f"retained of {together}", f"gap to {together} closed", "at the poorest site"]
    return [f"{use} ({metric.replace('_', ' ')})", *sites, "mean", *shares], out


def _number(value: float) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _percent(value: float | None, why: str) -> str:
    from fedsynth.worth.ratios import undefined

    return f"{100 * value:.0f} %" if value is not None else undefined(why) or "missing"


def text(tables: list[Cells], width: int) -> Group:
    """Return the tables of all uses for a terminal of so many columns.

    Heads are broken at blanks, numbers never. Where there are too many sites for the terminal only their mean is shown.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    parts: list[Any] = []
    for whole in tables:
        head, lines = whole if _fits(_least(whole), width) else _without_sites(whole)
        broad, least = [max(map(len, column)) for column in zip(head, *lines, strict=True)], _least((head, lines))
        shown = Table(box=None, pad_edge=False)
        for i, columns in enumerate(broad if _fits(broad, width) else least):
            shown.add_column(escape(head[i]), justify="right" if i else "left", width=columns)
        for line in lines:
            shown.add_row(*line, style="dim" if line[0] in ("local", "federated", "pooled", "public") else "")
        parts += [shown, ""]
    return Group(*parts)


def _fits(columns: list[int], width: int) -> bool:
    return sum(columns) + GAP * (len(columns) - 1) <= width


def _least(cells: Cells) -> list[int]:
    """Return the width that each column needs: its longest cell, or the longest word of its head."""
    head, lines = cells
    return [max(map(len, [*name.split(), *(line[i] for line in lines)])) for i, name in enumerate(head)]


def _without_sites(cells: Cells) -> Cells:
    head, lines = cells
    return [head[0], *head[-LAST:]], [[line[0], *line[-LAST:]] for line in lines]
