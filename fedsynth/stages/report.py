"""The report: what the other stages left in files becomes one page, its pictures and the table of worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedsynth import curves, outputs, pictures, worth
from fedsynth.dataset import ImageSet, concatenate
from fedsynth.params import Params
from fedsynth.report import SHOWN, Trained, page


def report(params: Params, root: Path, out: Path, simulation: bool = True, lineage: dict[str, Any] | None = None) -> None:
    """index.html, worth.csv, samples_<model>.png and losses_<model>.png into `out`, and worth.json (DVC's metrics) beside it.

    Real images are read in simulation only. `lineage` is shown on the page as it is: {"git commit": ..., ...}.
    Raises UserError naming the file that is missing; scores may be missing, and are shown as that.
    """
    root, out = Path(root), Path(out)
    validation = outputs.read(root / "reports" / "validation.json", "validate")
    models = {name: _trained(root, name) for name in params.models}
    rows = [row for path in _scores(root, params) for row in outputs.read(path, "score")["rows"]]
    real = shown(params, root, validation["used"]) if simulation else None
    out.mkdir(parents=True, exist_ok=True)
    for name, trained in models.items():
        sheet = pictures.samples(real, trained.synthetic, params.image, params.seed, SHOWN)
        (out / f"samples_{name}.png").write_bytes(pictures.png(sheet))
        (out / f"losses_{name}.png").write_bytes(curves.losses_png(trained.history, list(validation["sites"])))
    (out / "index.html").write_text(page(params, validation, rows, models, real, simulation, lineage), encoding="utf-8")
    outputs.write(out.parent / "worth.json", worth.summary(rows))
    worth.table(rows).to_csv(out / "worth.csv", index=False, lineterminator="\n")


def shown(params: Params, root: Path, sites: list[str]) -> ImageSet:
    """A few real images of each class from each site, so that no more than one site's set is in memory at once."""
    parts = []
    for site in sites:
        images = ImageSet.load(root / "data" / "sites" / site, verify=False)
        parts += [pictures.draw(images, label, SHOWN, params.seed) for label in params.image.labels]
    return concatenate(parts)


def _trained(root: Path, name: str) -> Trained:
    folder = root / "models" / name
    model, history = outputs.read(folder / "model.json", f"train@{name}"), outputs.read(folder / "history.json", f"train@{name}")
    return Trained(model, history, ImageSet.load(root / "data" / "synthetic" / name, verify=False))


def _scores(root: Path, params: Params) -> list[Path]:
    paths = [root / "reports" / "reference.json", *[root / "reports" / "score" / f"{name}.json" for name in params.models]]
    return [path for path in paths if path.is_file()]
