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
    """Write data/export/<model>/ from data/synthetic/<model>: an archive for each exporter, datasheet and model card.

    A set whose gates do not hold is exported, too; its datasheet and card say so in their first lines. Raises UserError
    naming the missing file.
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
        archive(part, folder / f"{name}.zip")  # a few large files instead of many small ones
        shutil.rmtree(part)
    print(
        f"export@{model}: {', '.join(params.sample.exporters) or 'papers only'}; gates: {known['verdict']['said']}",
        flush=True,
    )


def _write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def archive(folder: Path, path: Path) -> None:
    """Write a zip file that depends on the files only: no times, fixed order. No file is in memory as a whole."""
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(str(file.relative_to(folder)), date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            info.file_size = file.stat().st_size  # by which zipfile tells whether it needs room for large numbers
            with file.open("rb") as content, out.open(info, "w") as to:
                shutil.copyfileobj(content, to, 2**20)
