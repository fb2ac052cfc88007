"""A set of images that a released model draws, in one of the formats, with its papers: `fedsynth.generate`."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fedsynth
from fedsynth.data import manifest as table
from fedsynth.data.dataset import ImageSet, synthetic_row
from fedsynth.data.stored import Stored, Writer
from fedsynth.errors import UserError
from fedsynth.generation import formats, papers
from fedsynth.generation.folder import refuse, unfinished
from fedsynth.generation.order import Labels, Order, order, parts
from fedsynth.generation.source import released

if TYPE_CHECKING:
    from fedsynth.exporters import Exporter
    from fedsynth.generation.released import Released
    from fedsynth.validation.verdict import Verdict

Tell = Callable[[str, int, int], None]  # what is done; how many images of it; of how many, 0 where that is not known


class GenerationError(UserError):
    """The images that were drawn are no usable set; the message says which and why."""


def generate(
    model: str | Path,
    images: int,
    out: str | Path,
    label: Labels = None,
    format: str = "png",
    seed: int = 0,
    *,
    given: str | Path | None = None,
    version: int | None = None,
    study: str | Path = ".",
    although: str = "",
    by: str = "",
    tell: Tell = lambda what, done, of: None,
) -> dict[str, Any]:
    """Draw a set, check it as real data are, and write it to `out` with its papers. Returns what was done.

    `model`, `version`, `study`, `although`, `by`: see `fedsynth.load`; `images`, `label`, `seed`, `given`: see its
    `generate`. `format`: png, nifti, dicom, …, the files of fedsynth/exporters. `out`: a new or empty folder, which is
    there once it is complete. Images are drawn and written one part after the other: memory grows with the table of the
    images, not with their pixels. Raises UserError, and then leaves nothing.
    """
    exporter, out = formats.exporter(format), Path(out).resolve()
    refuse(out)
    found = released(model, version, study, although, by)
    wanted = order(found, images, label, seed, given)
    with unfinished(out, _bytes(wanted)) as part:
        work = part / ".work"
        _try(exporter, wanted, work / "empty")
        drawn, mends = _drawn(found, wanted, work / "set", tell)
        tell("checking", 0, 0)
        verdict = _checked(found, wanted, work / "set")
        tell(f"writing {format}", 0, 0)
        exporter.write(drawn, wanted.params.image, part)
        summary = _summary(found, wanted, drawn, verdict, mends) | {"format": format.lower(), "out": str(out)}
        papers.write(part, found, wanted.params, drawn, summary, given)
        shutil.rmtree(work)
    return summary


def _bytes(wanted: Order) -> int:
    """Return the size of the array on the disk, which is there while the set is written."""
    return 4 * len(wanted) * len(wanted.params.image.channels) * int(np.prod(wanted.params.image.size))


def _try(exporter: Exporter, wanted: Order, folder: Path) -> None:
    """Raise what the exporter raises for such images before any is drawn, by writing a set of none."""
    image = wanted.params.image
    none = ImageSet(table.frame([]), np.zeros((0, len(image.channels), *image.size), np.float32))
    folder.mkdir(parents=True)
    exporter.write(none, image, folder)


def _drawn(model: Released, wanted: Order, folder: Path, tell: Tell) -> tuple[ImageSet, Counter[str]]:
    """Draw a set into a folder as the stage `sample` writes it. Its array stays on the disk."""
    params, mends = wanted.params, Counter[str]()
    rows: list[dict[str, Any]] = []
    tell("drawing", 0, len(wanted))
    with Writer(folder / table.ARRAY, (len(params.image.channels), *params.image.size)) as written:
        for part in parts(model, wanted, mends):
            for array in part:
                written.add(array)
                label = wanted.places[len(rows)]
                rows.append(synthetic_row(params, len(rows), label, array, model.name, model.version))
            tell("drawing", len(rows), len(wanted))
    manifest = table.frame(rows)
    table.write_rows(folder, manifest)
    return ImageSet(manifest, Stored.open(folder / table.ARRAY, np.arange(len(rows)))), mends


def _checked(model: Released, wanted: Order, folder: Path) -> Verdict:
    """Hold a set against the expectations of the stage `sample`. Raises GenerationError where they are not met."""
    from fedsynth.validation import expectations

    verdict = expectations.validate(folder, wanted.params, model.name, None)
    if not verdict.passed:
        raise GenerationError(
            f"the images by {model.title} fail what real data must pass, and were deleted; another seed gives others,"
            f" a model that was trained longer better ones\n{verdict.message()}"
        )
    return verdict


def _summary(model: Released, wanted: Order, drawn: ImageSet, verdict: Verdict, mends: Counter[str]) -> dict[str, Any]:
    counts = drawn.manifest["label"].value_counts()
    return {
        "model": model.name,
        "title": model.title,
        "version": model.number,
        "weights_sha256": model.about["weights_sha256"],
        "verdict": model.verdict,
        "images": len(drawn),
        "labels": {label: int(counts.get(label, 0)) for label in wanted.params.image.labels},
        "seed": wanted.params.seed,
        "fedsynth": fedsynth.__version__,
        "held": model.held,
        "objections": model.objections,
        "checked": verdict.checked,
        "warnings": {failure.expectation: failure.count for failure in verdict.warnings},
        "mends": {name: mends[name] for name in ("masks emptied", "drawn again")},
    }
