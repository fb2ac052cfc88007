"""Loss curves by round and site, as SVG with the page's colours and as PNG."""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The Okabe-Ito palette, which is safe for colour-blind readers, without black and yellow, which are invisible on a
# dark or a white page.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
DASHES = ("-", "--", ":", "-.")  # the second is for the sites after the sixth


def style_of(sites: list[str]) -> dict[str, tuple[str, str]]:
    """Return colour and dash of each site by its position in the consortium, so that all charts agree."""
    return {site: (COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i, site in enumerate(sites)}


def by_player(history: dict[str, Any]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return {player: {site: [(round, loss)]}} of a history.json; rounds count from 1."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for entry in history["rounds"]:
        for site, metrics in entry["sites"].items():
            for name, value in metrics.items():
                if name.startswith("loss/") and value is not None:
                    found.setdefault(name.removeprefix("loss/"), {}).setdefault(site, []).append(
                        (entry["round"] + 1, float(value))
                    )
    return found


def losses(history: dict[str, Any], sites: list[str]) -> dict[str, str]:
    """Return {player: SVG} of the loss by round, with a line for each site.

    The SVG is for embedding in the page: it keeps text as text and uses the page's colours and font. `sites`: all sites
    of the consortium in order, which sets each site's colour.
    """
    style = style_of(sites)
    with plain():
        return {player: _inline(lines, style) for player, lines in by_player(history).items()}


def losses_png(history: dict[str, Any], sites: list[str]) -> bytes:
    """Return the same curves side by side as a PNG, for places that cannot show SVG."""
    found, style = by_player(history), style_of(sites)
    with plain():
        figure = _figure(len(found))
        for axes, (player, lines) in zip(figure.axes, found.items(), strict=True):
            panel(axes, lines, style)
            axes.set_title(player, fontsize=10, loc="left")
        return saved(figure, format="png", dpi=160)


def plain() -> Any:
    """Return a context with fixed matplotlib settings, independent of the user's own settings."""
    import matplotlib

    fixed: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "fedsynth",
        "font.size": 9,
        "axes.linewidth": 0.6,
        "text.parse_math": False,
    }
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg", **fixed})


def panel(axes: Axes, lines: dict[str, list[tuple[int, float]]], style: dict[str, tuple[str, str]]) -> None:
    """Draw the lines with the site's name at the end of each.

    The axis is logarithmic if the largest loss is more than 20 times the smallest and all are positive.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    values = np.array([v for points in lines.values() for _, v in points if math.isfinite(v)])
    logarithmic = len(values) > 0 and values.min() > 0 and values.max() > 20 * values.min()
    if logarithmic:
        axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9) if logarithmic else MaxNLocator(5))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    for site in (s for s in style if s in lines):
        x, y = zip(*lines[site], strict=True)
        axes.plot(
            x,
            y,
            color=style[site][0],
            linestyle=style[site][1],
            linewidth=1.5,
            marker="o" if len(x) < 4 else "",
            markersize=4,
        )
    axes.margins(x=0.02)  # no tick at round 0
    axes.set_xlabel("round")
    axes.set_ylabel("loss, logarithmic" if logarithmic else "loss")
    axes.grid(axis="y", alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    _name_ends(axes, lines, style)


def _name_ends(axes: Axes, lines: dict[str, list[tuple[int, float]]], style: dict[str, tuple[str, str]]) -> None:
    """Write each site's name beside the end of its line; names that would overlap are moved apart."""
    axes.get_xlim(), axes.get_ylim()  # computes the limits, which the transforms below need
    ends = {site: points[-1] for site, points in lines.items() if math.isfinite(points[-1][1])}
    places = {site: tuple((axes.transScale + axes.transLimits).transform(end)) for site, end in ends.items()}
    order = sorted(ends, key=lambda site: places[site][1])
    for site, height in zip(order, spread([float(places[site][1]) for site in order], 0.1), strict=True):
        axes.annotate(
            site if len(site) < 15 else f"{site[:13]}…",
            places[site],
            (1.06, height),
            "axes fraction",
            va="center",
            parse_math=False,  # a name may hold dollar signs
            arrowprops={"arrowstyle": "-", "color": style[site][0], "linewidth": 0.8, "shrinkA": 1, "shrinkB": 2},
        )


def spread(heights: list[float], apart: float) -> list[float]:
    """Move ascending heights as little as needed so that neighbours are at least `apart`.

    Heights that touch share their mean (pool adjacent violators).
    """
    groups: list[tuple[float, int]] = []  # (sum of height - place * apart, number of heights)
    for place, height in enumerate(heights):
        groups.append((height - place * apart, 1))
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            (total, n), (more, m) = groups[-2], groups.pop()
            groups[-1] = (total + more, n + m)
    flat = [total / n for total, n in groups for _ in range(n)]
    return [level + place * apart for place, level in enumerate(flat)]


def _figure(n: int) -> Any:
    from matplotlib.figure import Figure

    width, height = 3.7 * max(n, 1), 2.35  # inches
    figure = Figure(figsize=(width, height))
    if n:
        figure.subplots(1, n)
        figure.subplots_adjust(
            left=0.62 / width,
            right=1 - 0.85 / width,
            bottom=0.45 / height,
            top=1 - 0.25 / height,
            wspace=1.47 * n / (width - 1.47 * n),
        )
    return figure


def saved(figure: Any, **how: Any) -> bytes:
    """Return the bytes that `savefig` writes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, **how)
    return buffer.getvalue()


def _inline(lines: dict[str, list[tuple[int, float]]], style: dict[str, tuple[str, str]]) -> str:
    figure = _figure(1)
    panel(figure.axes[0], lines, style)
    return inline(figure, {colour: f"var(--site-{place})" for place, colour in enumerate(COLOURS)})


def inline(figure: Any, theme: dict[str, str]) -> str:
    """Return a figure as SVG for embedding in the page.

    Black becomes the page's text colour, each colour in `theme` becomes the page's CSS variable, and the page sets the
    font.
    """
    svg = saved(figure, format="svg", transparent=True, metadata={"Date": None}).decode()
    # remove the XML prolog, too
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*(viewBox="[^"]*")[^>]*>', r"<svg \1>", svg, count=1)
    # remove group ids, which would not be unique in the page
    svg = re.sub(r' id="[a-z0-9]+(_\d+|\.[a-z_\d]+)"', "", svg)
    svg = re.sub(r"font(?:-size)?: ([\d.]+px)[^;\"]*(; font-family:[^;\"]*)?", r"font-size: \1", svg)
    svg = svg.replace("#000000", "currentColor").replace("<text ", '<text fill="currentColor" ')
    for colour, variable in theme.items():
        svg = svg.replace(colour, variable)
    return re.sub(r"\s*\n\s*", " ", svg)
