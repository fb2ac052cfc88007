"""Stage `report`: the page with its pictures and text, and the numbers for DVC's metrics and plots."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.data import outputs, pictures
from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.params import Params, names
from fedsynth.report import comparison, curves, tradeoff, trainings_table
from fedsynth.report.by_site import absent, by_class, roles
from fedsynth.report.definitions import definitions
from fedsynth.report.measure_tables import measures
from fedsynth.report.page import SHOWN, Trained, page, settled
from fedsynth.report.text import markdown
from fedsynth.report.use_tables import summary_of, use_table
from fedsynth.report.worst_masks import failures
from fedsynth.worth import missing, rehearsal, use_networks, worth
from fedsynth.worth.facts import facts as known_of
from fedsynth.worth.wording import Facts

if TYPE_CHECKING:
    from torch import nn

    from fedsynth.uses import Use

Networks = dict[str, "tuple[Use, nn.Module]"]


def report(params: Params, root: Path, out: Path, simulation: bool = True, lineage: dict[str, Any] | None = None,
           facts: Facts | None = None, federated: Networks | None = None) -> None:  # fmt: skip
    """Write the report to the folder `out`, and the data of DVC beside it.

    In `out`: index.html, verdict.md, tradeoff.png, worth.csv, samples_<model>.png and losses_<model>.png, and
    trainings.csv where a model was trained several times. Beside it: headline.json (the columns of DVC), worth.json
    (all numbers), verdict.json (for programs), and plots/*.csv (DVC's plots, drawn by .dvc/plots/*.json).

    Real images are read in simulation only. `lineage`: shown on the page as it is, {"git commit": ..., ...}. `facts`:
    by model, and `federated`: networks by use; default: from the files under `root`. A model that failed is shown with
    the reason (worth/missing.py), one that was not asked for is not shown. Scores may be missing and are shown as
    missing. Raises UserError naming another file that is not there.
    """
    root, out = Path(root), Path(out)
    validation = outputs.read(root / "reports" / "validation.json", "validate")
    gone = missing.missing(root, params.models)
    models = {name: _trained(root, name) for name in params.models if name not in gone}
    answers = {path: outputs.read(path, "score") for path in _scores(root, models)}
    rows, spread = (
        [r for a in answers.values() for r in a["rows"]],
        [s for a in answers.values() for s in a.get("spread", [])],
    )
    silent = {_job(path): a["left_out"] for path, a in answers.items() if a.get("left_out")}
    told = _facts(params, root, models) if facts is None else facts
    failed = {name: missing.facts(params, name, of) for name, of in gone.items() if of["why"]}
    shown_models = [name for name in params.models if name in models or name in failed]
    known = settled(rows, {**told, **failed}, shown_models, spread)
    found = _networks(params, root) if federated is None else federated
    misfits = {name: failures(trained.synthetic, params.image, found) for name, trained in models.items()}
    real = shown(params, root, validation["used"]) if simulation else None
    out.mkdir(parents=True, exist_ok=True)
    pairs = {
        name: converted(params, root, name, of, validation["used"] if simulation else None)
        for name, of in models.items()
    }
    text = page(params, validation, rows, models, real, simulation, lineage, known, failures=misfits, silent=silent,
                pairs={name: of for name, of in pairs.items() if of})  # fmt: skip
    (out / "index.html").write_text(text, encoding="utf-8")
    _pictures(params, out, models, real, list(validation["sites"]))
    _numbers(params, out, rows, known, models, validation, silent)


def _pictures(params: Params, out: Path, models: dict[str, Trained], real: ImageSet | None, sites: list[str]) -> None:
    for name, trained in models.items():
        sheet = pictures.samples(real, trained.synthetic, params.image, params.seed, SHOWN)
        (out / f"samples_{name}.png").write_bytes(pictures.png(sheet))
        (out / f"losses_{name}.png").write_bytes(curves.losses_png(trained.history, sites))


def _numbers(
    params: Params,
    out: Path,
    rows: worth.Rows,
    facts: Facts,
    models: dict[str, Trained],
    validation: dict[str, Any],
    silent: dict[str, dict[str, str]],
) -> None:
    summary, wanted, used = summary_of(facts), list(params.score.uses), params.split.testing(validation["used"])
    uses = [use_table(use, rows, list(facts), used, summary) for use in wanted]
    classes = [by_class(use, rows, list(facts), used, params.consortium.min_cell) for use in wanted]
    terms = definitions(params, uses, measures(facts))
    said = absent(validation, silent), roles(params.split, validation["used"]), rehearsal.of(validation)
    several = trainings_table.tables(params, facts)
    (out / "verdict.md").write_text(markdown(uses, facts, used, classes, terms, *said, several), encoding="utf-8")
    if several:
        table = trainings_table.frame(params, facts)
        table.to_csv(out / "trainings.csv", index=False, lineterminator="\n")
    (out / "tradeoff.png").write_bytes(tradeoff.png(facts, wanted))
    worth.table(rows).to_csv(out / "worth.csv", index=False, lineterminator="\n")
    numbers = comparison.metrics(summary, facts)
    outputs.write(out.parent / "worth.json", numbers)
    outputs.write(out.parent / "headline.json", comparison.headline(numbers))
    outputs.write(out.parent / "verdict.json", comparison.verdicts(facts))
    (out.parent / "plots").mkdir(exist_ok=True)
    for name, frame in comparison.plots(rows, facts, {name: of.history for name, of in models.items()}, wanted).items():
        frame.to_csv(out.parent / "plots" / f"{name}.csv", index=False, lineterminator="\n")


def shown(params: Params, root: Path, sites: list[str]) -> ImageSet:
    """Return a few real images of each class from each site, loading one site's set at a time."""
    parts = []
    for site in sites:
        images = ImageSet.load(root / "data" / "sites" / names.key(site), verify=False)
        parts += [pictures.draw(images, label, SHOWN, params.seed) for label in params.image.labels]
    return concatenate(parts)


def converted(
    params: Params, root: Path, name: str, trained: Trained, sites: list[str] | None
) -> pictures.Pairs | None:
    """Return pictures of what the model generated from given channels; None if no channels are given.

    In simulation, of the test images of `sites`, beside the real images. Else (`sites` is None), of the synthetic set.
    """
    from fedsynth.training import sampling, weights

    image, each = params.image, max(1, SHOWN // len(params.image.labels))
    if not image.given:
        return None
    if sites is None:
        return pictures.pairs(
            image, concatenate([pictures.draw(trained.synthetic, k, each, params.seed) for k in image.labels]), None
        )
    folders = [root / "data" / "sites" / names.key(site) for site in sites]
    tests = [ImageSet.load(folder, verify=False).split("test") for folder in folders]
    few = concatenate([pictures.draw(test, label, each, params.seed) for test in tests for label in image.labels])
    real = concatenate([pictures.draw(few, label, each, params.seed) for label in image.labels])
    family = weights.build_family(trained.model, weights.load(root / "models" / name / weights.FILE))
    return pictures.pairs(image, sampling.convert(family, image, real, params.seed), real)


def _trained(root: Path, name: str) -> Trained:
    folder = root / "models" / name
    model, history = (
        outputs.read(folder / "model.json", f"train@{name}"),
        outputs.read(folder / "history.json", f"train@{name}"),
    )
    return Trained(model, history, ImageSet.load(root / "data" / "synthetic" / name, verify=False))


def _scores(root: Path, models: Iterable[str]) -> list[Path]:
    paths = [
        root / "reports" / "reference.json",
        *[root / "reports" / "score" / f"{name}.json" for name in models],
    ]
    return [path for path in paths if path.is_file()]


def _job(path: Path) -> str:
    """Return the job of a result file: "reference" or "score of vae"."""
    return path.stem if path.parent.name == "reports" else f"score of {path.stem}"


def _facts(params: Params, root: Path, models: Iterable[str]) -> Facts:
    """Return the facts of each model that was scored; the others are shown as not judged."""
    if not (root / "reports" / "reference.json").is_file():
        return {}
    scored = [name for name in models if (root / "reports" / "score" / f"{name}.json").is_file()]
    return {name: known_of(params, root, name) for name in scored}


def _networks(params: Params, root: Path) -> Networks:
    """Return the uses' federated networks; empty if the reference has not run."""
    return use_networks.federated(params, root) if (root / "data" / "reference" / use_networks.FILE).is_file() else {}
