"""Found: what a folder holds, in words for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fedsynth.study.found.layout import counted, shown
from fedsynth.study.found.seen import Seen

NAMED = 10  # problems that are named


class Found(Seen):
    """What a folder holds."""

    def text(self) -> str:
        """A line for each thing that was found."""
        return "\n".join(_lines(self))

    def __str__(self) -> str:
        return f"{self.layout.title}: {counted(len(self.good), 'image')} in {self.layout.folder}"


def _lines(found: Seen) -> Iterator[str]:
    layout, good = found.layout, found.good
    yield f"{layout.folder} is {layout.title}"
    yield f"  images    {_images(found)}"
    if not len(good):
        yield from _problems(found)
        return
    yield f"  channels  {_channels(found)}"
    yield f"  size      {_size(found)}"
    if layout.masks:
        yield f"  masks     {_masks(found)}"
    yield from _table(found.known, found)
    yield from (f"  note      {note}" for note in layout.notes)
    yield from _problems(found)


def _images(found: Seen) -> str:
    known = found.known
    of = f"{counted(len(known), 'image')} of {counted(known['subject'].nunique(), 'subject')}"
    per = known.groupby("subject").size()
    most = f", up to {per.max()} of one" if len(per) and per.max() > 1 else ""
    parts = {2: "two dimensions", 3: "three dimensions"}[found.layout.axes]
    slices = ", slices of volumes" if found.layout.slices is not None and found.layout.dims == 3 else ""
    read = "" if found.whole else f"; the first {len(found.images)} were read"
    return f"{of}{most}; {parts}{slices}{read}"


def _channels(found: Seen) -> str:
    images = [name for name, kind in found.layout.channels.items() if kind != "mask"]
    said = [name if kind == "image" else f"{name} ({_how(kind)})" for name, kind in found.layout.channels.items()
            if kind != "mask"]  # fmt: skip
    kind = "colour" if images == ["red", "green", "blue"] else "gray" if len(images) == 1 else f"{len(images)} channels"
    return f"{kind}: {', '.join(said)}"


def _how(kind: dict[str, object]) -> str:
    return "brightness of colour pictures" if kind["image"] == "luminance" else "also of gray pictures"


def _size(found: Seen) -> str:
    shapes = np.array(found.good["shape"].tolist())
    low, high = shapes.min(0), shapes.max(0)
    spacing = [s for s in found.good["spacing"] if s is not None]
    span = " x ".join(str(a) if a == b else f"{a} to {b}" for a, b in zip(low, high, strict=True))
    if not spacing:
        return f"{span} pixels, without a spacing in mm" if shapes.shape[1] == 2 else f"{span} voxels, no spacing in mm"
    steps = np.median(np.array(spacing), axis=0)
    return f"{span} voxels of {' x '.join(f'{s:.3g}' for s in steps)} mm (median)"


def _masks(found: Seen) -> str:
    kinds = found.good["mask"].value_counts()
    parts = [f"{n} {said}" for kind, said in (("marked", "with something marked"), ("empty", "empty"), ("", "missing"))
             if (n := int(kinds.get(kind, 0)))]  # fmt: skip
    values = f"; values {', '.join(map(str, sorted(found.values)))}" if found.values else ""
    names = {v: name for name, of in found.layout.values.items() for v in of if v}
    named = f" ({', '.join(f'{v} {names[v]}' for v in sorted(names))})" if names else ""
    return ", ".join(parts) + values + named


def _table(known: pd.DataFrame, found: Seen) -> Iterator[str]:
    """Images by site and class."""
    renamed = found.layout.args.get("labels") or {}
    known = known.assign(label=[renamed.get(label, label) or "(no label)" for label in known["label"]])
    counts = known.groupby(["site", "label"]).size()
    for site, of in counts.groupby(level="site"):
        cells = shown([f"{label} {n}" for (_, label), n in of.items()], 12)
        yield f"  site      {site}: {cells}" if found.layout.sited else f"  classes   {cells}"


def _problems(found: Seen) -> Iterator[str]:
    problems = found.problems
    yield from (f"  problem   {said}" for said in problems[:NAMED])
    if len(problems) > NAMED:
        yield f"  problem   and {len(problems) - NAMED} more"
