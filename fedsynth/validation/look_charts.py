"""Histograms of the page of `fedsynth look`, as SVG in the page's colours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedsynth.data.manifest import BINS

COLOURS, DASHES = 6, ("none", "6 3", "2 3")  # var(--line-0) to var(--line-5) of the page; for classes beyond the sixth
WIDE, HIGH = 128, 32  # of one image's histogram
PLOT = (320, 96)  # of the histogram of a site


def bars(counts: np.ndarray, said: str, limits: tuple[float, ...] = ()) -> str:
    """One histogram (BINS,); the height is the square root of the count, because background outnumbers all else.

    `limits` are places from 0 to 1 along it, drawn as lines. `said` is read out instead of the picture.
    """
    high = np.sqrt(counts / max(counts.max(), 1)) * HIGH
    step = WIDE / len(counts)
    path = "".join(f"V{HIGH - h:.1f}h{step:g}" for h in high)
    lines = "".join(f'<path class="limit" d="M{x * WIDE:.1f} 0V{HIGH}"/>' for x in limits if 0 <= x <= 1)
    return _svg(WIDE, HIGH, said, f'<path class="bars" d="M0 {HIGH}{path}V{HIGH}Z"/>{lines}')


def overlay(lines: Mapping[str, np.ndarray], said: str) -> str:
    """One line for each class, of shares (BINS,); the height is the square root of the share."""
    wide, high = PLOT
    top = max([float(share.max()) for share in lines.values()], default=0.0) or 1.0
    drawn = []
    for place, share in enumerate(lines.values()):
        path = "".join(f"V{high - 2 - np.sqrt(s / top) * (high - 6):.1f}h{wide / len(share):g}" for s in share)
        dash, colour = DASHES[place // COLOURS % len(DASHES)], place % COLOURS
        drawn.append(f'<path class="line-{colour}" stroke-dasharray="{dash}" d="M0 {high - 2}{path}V{high - 2}"/>')
    return _svg(wide, high, said, "".join(drawn))


def key(place: int) -> str:
    """The line of the class at a place, for a legend."""
    dash, line = DASHES[place // COLOURS % len(DASHES)], f"line-{place % COLOURS}"
    path = f'<path class="{line}" stroke-dasharray="{dash}" d="M0 4H24"/>'
    return f'<svg class="key" viewBox="0 0 24 8" aria-hidden="true">{path}</svg>'


def _svg(wide: int, high: int, said: str, inside: str) -> str:
    from markupsafe import escape

    return (
        f'<svg viewBox="0 0 {wide} {high}" preserveAspectRatio="none" role="img" aria-label="{escape(said)}">'
        f"{inside}</svg>"
    )


def on_range(counts: np.ndarray, own: tuple[float, float], ends: tuple[float, float]) -> np.ndarray:
    """Shares (BINS,) between `ends` of a histogram (BINS,) between `own`; what lies beyond is in the last bins."""
    edges = np.linspace(*ends, BINS + 1)
    shares = np.concatenate([[0], np.cumsum(counts) / counts.sum()])
    below = np.interp(edges, np.linspace(*own, len(counts) + 1), shares)
    below[0], below[-1] = 0, 1
    return np.diff(below)
