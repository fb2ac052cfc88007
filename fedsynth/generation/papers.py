"""Datasheet and model card of a set that was drawn from a released model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.generation.formats import block_of
from fedsynth.report.card import FILE
from fedsynth.report.datasheet import DATASHEET, datasheet

if TYPE_CHECKING:
    from fedsynth.data.dataset import ImageSet
    from fedsynth.generation.released import Released
    from fedsynth.params import Params


def write(
    folder: Path,
    model: Released,
    params: Params,
    drawn: ImageSet,
    summary: dict[str, Any],
    given: str | Path | None,
) -> None:
    """Write both. `given`: the folder of the given channels, of which the datasheet tells the name alone."""
    changes = {"exporters": {summary["format"]: block_of(summary["format"])}} | (
        {"given": Path(given).name} if given is not None else {}
    )
    told = params.model_copy(update={"sample": params.sample.model_copy(update=changes)})
    text = datasheet(told, model.about, drawn, None, summary)
    (folder / DATASHEET).write_text(text, encoding="utf-8")
    (folder / FILE).write_text(model.card, encoding="utf-8")
