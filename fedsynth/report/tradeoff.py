"""The plot of worth against privacy, with a point for each model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from markupsafe import escape

from fedsynth.report import curves
from fedsynth.worth import judgement
from fedsynth.worth.wording import Facts, is_number, mean_of_uses

GOOD, BAD, SOFT = "#00694d", "#a63f00", "#5c646d"  # the page's colours; it has others for its dark mode
THEME = {GOOD: "var(--good)", BAD: "var(--bad)", SOFT: "var(--soft)"}
MEMBERSHIP = re.compile(r"\s*membership_(?:\w+_)?auc\s*<=?\s")
RETAINED = re.compile(r"\s*[\w@.-]+/retained\s*>=?\s")


@dataclass(frozen=True)
class Point:
    """One model in the plot.

    `auc`: of the strongest membership attack; `retained`: mean over the uses; intervals are (low, high) or None.
    """

    model: str
    passed: bool
    auc: float | None
    auc_interval: tuple[float, float] | None
    retained: float | None
    retained_interval: tuple[float, float] | None
    of: str  # what `retained` is a share of: "" for the pooled reference, else " of federated"
    why: str  # what is missing; a point may still be drawn

    @property
    def drawn(self) -> bool:
        return self.auc is not None and self.retained is not None


def points(facts: Facts, uses: list[str]) -> list[Point]:
    """Return a point for each model.

    `retained` is None if it is missing for a use, because a mean over fewer uses is another quantity.
    """
    return [_point(model, of, uses) for model, of in facts.items()]


def _point(model: str, of: dict[str, Any], uses: list[str]) -> Point:
    attacks = judgement.membership(of)
    known = {kind: number for kind, number in attacks.items() if is_number(number.get("value"))}
    worst = judgement.strongest(of)
    summary = [(of.get("uses") or {}).get(use) or {} for use in uses]
    kept = mean_of_uses(s.get("retained") for s in summary)
    # The uses share their test images: the mean of the ends is the widest possible interval of the mean.
    pairs = [pair for s in summary if (pair := _pair((s.get("intervals") or {}).get("retained")))]
    both = (
        (sum(p[0] for p in pairs) / len(pairs), sum(p[1] for p in pairs) / len(pairs))
        if pairs and len(pairs) == len(uses)
        else None
    )
    lacking = [f"membership by {kind}" for kind in attacks if kind not in known] + (
        ["retained"] if kept is None else []
    )
    interval = _pair([worst.get("low"), worst.get("high")])
    return Point(
        model, judgement.passed(of), worst.get("value"), interval, kept, both, _share_of(summary), ", ".join(lacking)
    )


def _share_of(summary: list[dict[str, Any]]) -> str:
    found = sorted({s.get("against") or "pooled" for s in summary} or {"pooled"})
    return "" if found == ["pooled"] else f" of {' and '.join(found)}"


def _pair(ends: list[Any] | None) -> tuple[float, float] | None:
    return (float(ends[0]), float(ends[1])) if ends and len(ends) == 2 and all(is_number(v) for v in ends) else None


def limits(facts: Facts) -> dict[str, list[float]]:
    """Return {"auc", "retained"}: the distinct gate limits on the two axes."""
    gates = [
        g for of in facts.values() for g in (of.get("verdict") or {}).get("gates") or [] if is_number(g.get("limit"))
    ]
    kinds = {"auc": MEMBERSHIP, "retained": RETAINED}
    return {
        axis: sorted({float(g["limit"]) for g in gates if pattern.match(g["gate"])}) for axis, pattern in kinds.items()
    }


def missing(found: list[Point]) -> list[str]:
    """Return what each model lacks, for the line below the plot: "gan: retained missing"."""
    return [f"{p.model}: {p.why} missing" for p in found if p.why]


def described(found: list[Point]) -> str:
    """Return the plot in words, as its alternative text."""
    drawn = [f"{p.model}: membership AUC {p.auc:.2f}, retained {p.retained:.2f}{p.of}" for p in found if p.drawn]
    return "; ".join(drawn + [f"{p.model} is not drawn" for p in found if not p.drawn]) or "no model"


def svg(facts: Facts, uses: list[str]) -> str:
    """Return the plot as SVG for embedding in the page, with its colours; empty if no model can be drawn."""
    found = points(facts, uses)
    if not any(p.drawn for p in found):
        return ""
    with curves.plain():
        text = curves.inline(_figure(found, limits(facts)), THEME)
    head = (
        '<title id="tradeoff-title">Worth against privacy</title><desc'
        f' id="tradeoff-desc">{escape(described(found))}</desc>'
    )
    named = '<svg role="img" aria-labelledby="tradeoff-title tradeoff-desc" '
    return re.sub(r"<svg ([^>]*)>", lambda tag: f"{named}{tag[1]}>{head}", text, count=1)


def png(facts: Facts, uses: list[str]) -> bytes:
    """Return the plot as PNG, with the missing numbers below it."""
    found = points(facts, uses)
    with curves.plain():
        figure = _figure(found, limits(facts))
        figure.text(0.02, 0.01, "; ".join(missing(found)), fontsize=7, va="bottom", color=SOFT)
        return curves.saved(figure, format="png", dpi=160)


def _figure(found: list[Point], lines: dict[str, list[float]]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(6.4, 3.7))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.11, right=0.97, bottom=0.17, top=0.95)
    drawn = [p for p in found if p.drawn]
    _limit_axes(axes, drawn, lines)
    for p, x, y in ((p, p.auc or 0.0, p.retained or 0.0) for p in drawn):
        colour = GOOD if p.passed else BAD
        for across, along in ((p.auc_interval or (x, x), (y, y)), ((x, x), p.retained_interval or (y, y))):
            axes.plot(across, along, color=colour, linewidth=1, alpha=0.7, zorder=2)
        hollow = "none" if "membership" in p.why else colour  # an attack is missing, so the AUC may be higher
        axes.plot(x, y, "o" if p.passed else "X", color=colour, markerfacecolor=hollow, markersize=8, zorder=3)
    _name(axes, drawn)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.set_xlabel("membership AUC of the strongest attack (0.5: guessing; further left gives away less)")
    axes.set_ylabel(f"retained{' or'.join(sorted({p.of for p in drawn if p.of}))}, mean of the uses")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _limit_axes(axes: Any, drawn: list[Point], lines: dict[str, list[float]]) -> None:
    """Set the limits so that points, intervals and gates are visible, and draw the gates' lines with their limits."""
    x = [0.5, *lines["auc"], *(v for p in drawn for v in (p.auc, *(p.auc_interval or ())))]
    y = [1.0, *lines["retained"], *(v for p in drawn for v in (p.retained, *(p.retained_interval or ())))]
    for values, put in ((x, axes.set_xlim), (y, axes.set_ylim)):
        room = 0.08 * max(max(values) - min(values), 0.1)
        put(min(values) - room, max(values) + room)
    axes.axvline(0.5, color=SOFT, linewidth=0.8, linestyle=":")
    for value in lines["auc"]:
        axes.axvline(value, color=BAD, linewidth=1, linestyle="--")
        at = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
            "color": BAD,
            "fontsize": 8,
            "ha": "right",
        }
        axes.annotate(f"gate: at most {value:g}", (value, 0.96), xytext=(-4, 0), **at)
    for value in lines["retained"]:
        axes.axhline(value, color=BAD, linewidth=1, linestyle="--")
        at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "color": BAD, "fontsize": 8}
        axes.annotate(f"gate: at least {value:.0%}", (0.01, value), xytext=(0, 3), **at)


def _name(axes: Any, drawn: list[Point]) -> None:
    """Write each model's name beside its point; names that would overlap are moved apart."""
    axes.get_xlim(), axes.get_ylim()
    places = {p.model: tuple((axes.transScale + axes.transLimits).transform((p.auc, p.retained))) for p in drawn}
    order = sorted(places, key=lambda model: places[model][1])
    for model, height in zip(order, curves.spread([float(places[m][1]) + 0.03 for m in order], 0.06), strict=True):
        right = places[model][0] > 0.8
        put = {
            "xytext": (-9 if right else 9, 0),
            "textcoords": "offset points",
            "ha": "right" if right else "left",
            "va": "bottom",
        }
        axes.annotate(model, (places[model][0], height), xycoords="axes fraction", fontsize=10, **put)
