"""Stage `export`: writes the synthetic set by each exporter, with datasheet and model card."""

from __future__ import annotations

import shutil
from pathlib import Path

from fedsynth.data import outputs
from fedsynth.data.dataset import ImageSet
from fedsynth.params import Params
from fedsynth.report.card import papers
from fedsynth.training.weights import ABOUT
from fedsynth.worth.facts import facts


def export(params: Params, root: Path, model: str) -> None:
    """data/export/<model>/ from data/synthetic/<model> and what its scoring found. Raises UserError naming the file
    that is missing.

    A set whose gates do not hold is handed out too: its papers say so on their first lines.
    """
    about, drawn = (
        outputs.read(root / "models" / model / ABOUT, f"train@{model}"),
        ImageSet.load(root / "data" / "synthetic" / model),
    )
    known, folder = facts(params, root, model), root / "data" / "export" / model
    texts = papers(params, about, drawn, known)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write(folder, texts)
    for name, block in params.sample.exporters.items():
        part = folder / name
        part.mkdir()
        block.build().write(drawn, params.image, part)
        _write(part, texts)
        archive(part, folder / f"{name}.zip")  # a set is few large files
        shutil.rmtree(part)
    print(
        f"export@{model}: {', '.join(params.sample.exporters) or 'papers only'}; gates: {known['verdict']['said']}",
        flush=True,
    )


def _write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def archive(folder: Path, path: Path) -> None:
    """A zip whose bytes depend on the files alone: no times, fixed order."""
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(str(file.relative_to(folder)), date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            out.writestr(info, file.read_bytes())
