"""Pictures for people: contact sheets of real beside synthetic images, and curves of the losses. The report, MLflow and Prefect show the same."""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.dataset import ImageSet
from fedsynth.params import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image as Picture

TILE, GAP = 112, 4  # pixels: the longer edge of one image, and the space between two
# Okabe & Ito's colours, which people with any colour vision can tell apart; black and yellow are left out: they vanish on a dark or a white page.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
DASHES = ("-", "--", ":", "-.")  # for the sites after the sixth
OUTLINES = ("#ffd000", "#56b4e9", "#ff6fb5", "#3ddc97")  # of the mask channels: bright, because images are dark


def draw(images: ImageSet, label: str, n: int, seed: int) -> ImageSet:
    """At most `n` usable images of one class, drawn by chance so that nobody chooses the good ones; the same seed draws the same."""
    rows = images.manifest
    places = np.flatnonzero((rows["label"] == label) & (rows["problem"] == ""))
    keep = np.zeros(len(rows), dtype=bool)
    keep[np.random.default_rng(seed).permutation(places)[:n]] = True
    return images.where(keep)


def rows_of(image: Image) -> dict[str, list[str]]:
    """Rows of a sheet and the image channels in each: one for each channel, but one in all for red, green and blue."""
    if [c.lower()[:1] for c in image.images] == ["r", "g", "b"]:
        return {"colour": image.images}
    return {name: [name] for name in image.images}


def sheet(images: ImageSet, image: Image) -> np.ndarray:
    """(height, width, 4) uint8 RGBA, clear between tiles: a column for each image of the set, a row for each of `rows_of`, mask channels outlined.

    Of a volume the middle slice along its first axis.
    """
    flat = images.images if images.images.ndim == 4 else images.images[:, :, images.images.shape[2] // 2]
    masks = image.index(image.masks)
    return _grid([[_tile(one[image.index(names)], one[masks]) for one in flat] for names in rows_of(image).values()])


def _grid(tiles: list[list[np.ndarray]]) -> np.ndarray:
    def join(parts: list[np.ndarray], axis: int) -> np.ndarray:
        between = [(0, 0)] * 3
        between[axis] = (0, GAP)
        padded = [np.pad(p, between, constant_values=0) for p in parts[:-1]]
        return np.concatenate([*padded, parts[-1]], axis)

    if not tiles or not tiles[0]:
        return np.zeros((0, 0, 4), np.uint8)
    return join([join(row, 1) for row in tiles], 0)


def _tile(planes: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(h, w, 4) uint8 of planes (1 or 3, H, W) in [-1, 1], with a line around each mask (M, H, W)."""
    from PIL.Image import Resampling

    gray = np.stack([_resize(p, Resampling.BICUBIC) for p in planes], -1).clip(-1, 1)
    tile = np.full((*gray.shape[:2], 4), 255, np.uint8)
    tile[..., :3] = np.round((gray + 1) * 127.5)
    for mask, colour in zip(masks, OUTLINES * math.ceil(len(masks) / len(OUTLINES)), strict=False):
        tile[_outline(_resize(mask, Resampling.BILINEAR) > 0), :3] = list(bytes.fromhex(colour[1:]))
    return tile


def _resize(plane: np.ndarray, how: Any) -> np.ndarray:
    from PIL import Image as pil

    factor = TILE / max(plane.shape)
    size = (max(1, round(plane.shape[1] * factor)), max(1, round(plane.shape[0] * factor)))  # PIL says width first
    return np.asarray(pil.fromarray(np.ascontiguousarray(plane, dtype=np.float32)).resize(size, how))


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels just outside of a mask (H, W) bool, so that the lesion itself stays in sight."""
    around = mask.copy()
    around[1:] |= mask[:-1]
    around[:-1] |= mask[1:]
    around[:, 1:] |= mask[:, :-1]
    around[:, :-1] |= mask[:, 1:]
    return around & ~mask


def samples(real: ImageSet | None, synthetic: ImageSet, image: Image, seed: int, n: int = 6) -> Picture:
    """One picture with a block for each class: `n` real images, drawn by chance, beside `n` synthetic ones. Without `real`, those alone."""
    from PIL import Image as pil
    from PIL import ImageDraw

    sides = ([("real", real)] if real is not None else []) + [("synthetic", synthetic)]
    blocks = {label: [(side, sheet(draw(of, label, n, seed), image)) for side, of in sides] for label in image.labels}
    widths = [max(blocks[label][i][1].shape[1] for label in image.labels) for i in range(len(sides))]
    left, apart, head, foot = 64, 28, 44, 14
    heights = [max(s.shape[0] for _, s in pair) for pair in blocks.values()]
    size = left + sum(max(w, TILE) for w in widths) + apart * (len(sides) - 1) + foot, foot + sum(head + h + foot for h in heights)
    canvas = pil.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    y = foot
    for (label, pair), height in zip(blocks.items(), heights, strict=True):
        pen.text((foot, y), label, "black", _font(17))
        for row, name in enumerate(rows_of(image)):
            pen.text((foot, y + head + row * (height + GAP) / len(rows_of(image))), name, "#555555", _font(13))
        x = left
        for (side, tiles), width in zip(pair, widths, strict=True):
            pen.text((x, y + 23), side if tiles.size else f"{side}: none of this class", "#555555", _font(13))
            if tiles.size:
                picture = pil.fromarray(tiles)
                canvas.paste(picture, (x, y + head), picture)
            x += max(width, TILE) + apart
        y += head + height + foot
    return canvas


def _font(size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def png(picture: np.ndarray | Picture) -> bytes:
    from PIL import Image as pil

    buffer = io.BytesIO()
    (pil.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, "PNG")
    return buffer.getvalue()


def style_of(sites: list[str]) -> dict[str, tuple[str, str]]:
    """Colour and dash of each site, by its place in the whole consortium's order: the same in every chart."""
    return {site: (COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i, site in enumerate(sites)}


def curves(history: dict[str, Any]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """{player: {site: [(round, loss)]}} of a history.json; rounds count from 1, as people do."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for entry in history["rounds"]:
        for site, metrics in entry["sites"].items():
            for name, value in metrics.items():
                if name.startswith("loss/") and value is not None:
                    found.setdefault(name.removeprefix("loss/"), {}).setdefault(site, []).append((entry["round"] + 1, float(value)))
    return found


def losses(history: dict[str, Any], sites: list[str]) -> dict[str, str]:
    """{player: SVG} of loss by round, a line for each site, to stand inside a page: text as text, colours and font of the page.

    `sites` is the whole consortium in its order, which gives each site its colour.
    """
    style = style_of(sites)
    with _plain():
        return {player: _inline(lines, style) for player, lines in curves(history).items()}


def losses_png(history: dict[str, Any], sites: list[str]) -> bytes:
    """The same curves side by side as a PNG, for places that show no SVG."""
    found, style = curves(history), style_of(sites)
    with _plain():
        figure = _figure(len(found))
        for axes, (player, lines) in zip(figure.axes, found.items(), strict=True):
            panel(axes, lines, style)
            axes.set_title(player, fontsize=10, loc="left")
        return _saved(figure, format="png", dpi=160)


def _plain() -> Any:
    import matplotlib

    fixed = {"svg.fonttype": "none", "svg.hashsalt": "fedsynth", "font.size": 9, "axes.linewidth": 0.6, "text.parse_math": False}
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg", **fixed})  # a person's own settings change no report


def panel(axes: Axes, lines: dict[str, list[tuple[int, float]]], style: dict[str, tuple[str, str]]) -> None:
    """Draw the lines with the site's name at the end of each. A loss that falls by more than a factor of 20 gets a logarithmic axis."""
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
        axes.plot(x, y, color=style[site][0], linestyle=style[site][1], linewidth=1.5, marker="o" if len(x) < 4 else "", markersize=4)
    axes.margins(x=0.02)  # no tick at round 0
    axes.set_xlabel("round")
    axes.set_ylabel("loss, logarithmic" if logarithmic else "loss")
    axes.grid(axis="y", alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    _name_ends(axes, lines, style)


def _name_ends(axes: Axes, lines: dict[str, list[tuple[int, float]]], style: dict[str, tuple[str, str]]) -> None:
    """Write each site's name beside the end of its line, moved apart where ends meet."""
    axes.get_xlim(), axes.get_ylim()  # settles the limits, on which the next line rests
    ends = {site: points[-1] for site, points in lines.items() if math.isfinite(points[-1][1])}
    places = {site: (axes.transScale + axes.transLimits).transform(end) for site, end in ends.items()}
    order = sorted(ends, key=lambda site: places[site][1])
    for site, height in zip(order, spread([float(places[site][1]) for site in order], 0.1), strict=True):
        axes.annotate(site if len(site) < 15 else f"{site[:13]}…", places[site], (1.06, height), "axes fraction", va="center",
                      arrowprops={"arrowstyle": "-", "color": style[site][0], "linewidth": 0.8, "shrinkA": 1, "shrinkB": 2})  # fmt: skip


def spread(heights: list[float], apart: float) -> list[float]:
    """Ascending heights, moved as little as needed to lie at least `apart`: groups that touch share their mean (pool adjacent violators)."""
    groups: list[tuple[float, int]] = []  # sum of (height - place * apart), and number, of heights that lie `apart` exactly
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
            left=0.62 / width, right=1 - 0.85 / width, bottom=0.45 / height, top=1 - 0.25 / height, wspace=1.47 * n / (width - 1.47 * n)
        )
    return figure


def _saved(figure: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, **how)
    return buffer.getvalue()


def _inline(lines: dict[str, list[tuple[int, float]]], style: dict[str, tuple[str, str]]) -> str:
    """Black becomes the page's ink, a site's colour the page's variable, and the page gives the font."""
    figure = _figure(1)
    panel(figure.axes[0], lines, style)
    svg = _saved(figure, format="svg", transparent=True, metadata={"Date": None}).decode()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)  # and no XML prolog
    svg = re.sub(r'<svg [^>]*(viewBox="[^"]*")[^>]*>', r"<svg \1>", svg, count=1)
    svg = re.sub(r' id="[a-z0-9]+(_\d+|\.[a-z_\d]+)"', "", svg)  # names of groups, which would not be unique in the page
    svg = re.sub(r"font(?:-size)?: ([\d.]+px)[^;\"]*(; font-family:[^;\"]*)?", r"font-size: \1", svg)
    svg = svg.replace("#000000", "currentColor").replace("<text ", '<text fill="currentColor" ')
    for place, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--site-{place})")
    return re.sub(r"\s*\n\s*", " ", svg)
