"""The datasheet of a synthetic set, after Gebru et al., "Datasheets for Datasets" (2021): origin, model, purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedsynth.data.images import PERCENTILES
from fedsynth.data.planes import BITS8, HU
from fedsynth.params import Params, Scale
from fedsynth.worth.wording import began_said, local_work

if TYPE_CHECKING:
    from fedsynth.data.dataset import ImageSet


DATASHEET = "DATASHEET.md"


def datasheet(
    params: Params,
    model: dict[str, Any],
    synthetic: ImageSet,
    facts: dict[str, Any] | None,
    drawn: dict[str, Any] | None = None,
) -> str:
    """Return the datasheet of the set `synthetic` in Markdown; the same input gives the same text.

    `model`: the model.json of the model that generated it. `facts`: from fedsynth/worth/facts.py, of the set that the
    study drew; None for another set, which was not judged. `drawn`: how that one was drawn, from
    fedsynth/generation/writing.py.
    """
    from fedsynth.report.fact_tables import tables

    rows = synthetic.manifest
    exporters = {e.class_path.rpartition(".")[2]: e.build() for e in params.sample.exporters.values()}
    return render(
        "datasheet.md.j2",
        params=params,
        image=params.image,
        model=model,
        n=len(rows),
        classes={label: int((rows["label"] == label).sum()) for label in params.image.labels},
        withheld=f"< {params.consortium.min_cell}",
        version=", ".join(sorted(set(rows["model"]))),
        seeds=", ".join(str(s) for s in sorted(set(rows["seed"]))),
        size=" × ".join(map(str, params.image.size)),
        exporters=list(exporters),
        scales={name: scale_text(params.image.scaling(name)) for name in params.image.images},
        layouts=_same({name: exporter.layout(params.image) for name, exporter in exporters.items()}),
        t=tables(facts) if facts else None,
        drawn=drawn,
    )


def scale_text(scale: Scale) -> str:
    """Return in words which values of the real images became -1 and 1 (`image.scale`)."""
    if scale.window:
        return f"of the values {scale.window[0]:g} to {scale.window[1]:g} of the file"
    of = {"image": "each image", "volume": "each image or volume", "site": "all training images of each site"}
    whole = of[scale.of]
    joint = ", jointly over the image channels" if scale.joint else ""
    if scale.percentiles:
        return f"of the percentiles {scale.percentiles[0]:g} to {scale.percentiles[1]:g} of {whole}{joint}"
    pictures, tomography = (f"{low:g} to {high:g}" for low, high in (BITS8, HU))
    kinds = f"{pictures} for pictures of 8 bits, {tomography} HU for computed tomography, else "
    known = kinds * (scale.of == "volume")
    return f"of {known}the percentiles {PERCENTILES[0]:g} to {PERCENTILES[1]:g} of {whole}{joint}"


def _same(layouts: dict[str, dict[str, str]]) -> list[tuple[list[str], dict[str, str]]]:
    """Return each distinct layout once, with the names of the exporters that have it."""
    found: list[tuple[list[str], dict[str, str]]] = []
    for name, files in layouts.items():
        names = next((names for names, known in found if known == files), None)
        if names is None:
            found.append(([name], files))
        else:
            names.append(name)
    return found


def render(template: str, **known: Any) -> str:
    """Render a Markdown template of this folder; its filters are functions of these names."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fedsynth.report", "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        autoescape=False,
    )
    # Markdown, not HTML: cells are escaped by name
    environment.filters.update(cell=cell, short=block, local_work=local_work, began=began_said)
    return environment.get_template(template).render(**known)


def cell(text: Any) -> str:
    """Escape text for a cell of a Markdown table: one line, without bars and tags."""
    line = " ".join(str(text).split())
    return line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def block(call: dict[str, Any]) -> str:
    """Return `{class_path, args}` as text: "FedProx (mu = 0.01)"."""
    args = ", ".join(f"{name} = {value}" for name, value in (call.get("args") or {}).items())
    return str(call["class_path"]).rpartition(".")[2] + (f" ({args})" if args else "")
