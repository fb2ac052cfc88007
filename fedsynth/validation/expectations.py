"""Runs Great Expectations over one image set. The only module that imports it, lazily (2 CPU-seconds)."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from fedsynth.data import manifest
from fedsynth.data.stored import Stored
from fedsynth.params import Params, names
from fedsynth.settings import quiet
from fedsynth.validation import columns, rules, verdict_page
from fedsynth.validation.hints import HINTS
from fedsynth.validation.rules import Rule
from fedsynth.validation.verdict import Failure, Verdict, count

__all__ = ["Failure", "Verdict", "validate"]


class ExpectationError(RuntimeError):
    """Great Expectations could not compute an expectation: a fault of the program, not of the data."""


def validate(folder: Path, params: Params, site: str, docs: Path | None) -> Verdict:
    """Check the set in `folder`; with `docs`, write the report there: index.html, message.txt, verdict.json,
    gx_result.json.

    A synthetic set (every row's origin says so) is asked the same, but for the least number of images: its images are
    all for training, so only `min_images.train` applies, and only to the classes that `sample.balance` asks for. What
    is wrong with the set is a failure in the verdict, never an exception.
    """
    report = Report(params)
    rows = report.read(Path(folder))
    if rows is not None and len(rows):
        report.run("table", rows, rules.of_table())
        report.images(Path(folder), rows)
        counts = count(_usable(rows), params.image.labels)
        if len(cells := columns.cells(counts, *_least(params, rows, site))):
            report.run("cells", cells, rules.of_cells())
    elif rows is not None:
        report.run("table", rows, rules.of_table()[:1])  # all else is true, or false, of nothing
    verdict = report.verdict(site, rows)
    if docs is not None:
        verdict_page.write(Path(docs), verdict, report.raw)
    return verdict


class Report:
    """Gathers failures by the name of their expectation, and GX's own results."""

    def __init__(self, params: Params):
        self.params = params
        self.failed: dict[str, Failure] = {}
        self.seen: set[tuple[str, int]] = set()  # (expectation, place)
        self.checked: list[str] = []
        self.raw: dict[str, Any] = {}

    def read(self, folder: Path) -> pd.DataFrame | None:
        """The manifest; None, and a failure, where it cannot be read or has other columns (GX tells a missing column by
        a stack trace).
        """
        self.checked.append(name := "columns of the manifest")
        try:
            rows = manifest.read(folder)
        # pandas raises ValueError for cells that are no numbers
        except (manifest.SetError, ValueError, OSError) as error:
            self.add(name, [str(error)])
            return None
        if unknown := [c for c in rows.columns if c not in manifest.COLUMNS]:
            self.add(name, [f"{folder / manifest.FILE} has the unknown columns {unknown}"])
        return rows.assign(place=range(len(rows)))  # GX names failed rows by it, also where an image_id is there twice

    def images(self, folder: Path, rows: pd.DataFrame) -> None:
        """The rows without a problem, and their pixels where the array fits the manifest and params.yaml."""
        usable, image, listed = _usable(rows), self.params.image, rules.of_images(self.params)
        pixels = self.pixels(folder, rows)
        if not len(usable):
            return
        frame = columns.compare(usable, image)
        if pixels is not None:
            stored = pixels.where(usable["place"].to_numpy(int))
            frame = columns.pixel_statistics(frame, iter(stored), image)
        else:
            listed = [rule for rule in listed if not any(c.startswith("stored_") for c in rule.columns)]
        self.run("images", frame, listed)

    def pixels(self, folder: Path, rows: pd.DataFrame) -> Stored | None:
        """The rows' images (N, C, *S), which stay on the disk; None, and a failure, where the array is not the
        manifest's.
        """
        expected = (len(self.params.image.channels), *self.params.image.size)
        try:
            stored = Stored.open(folder / manifest.ARRAY, rows["index"].to_numpy(dtype=int))
        except (manifest.SetError, ValueError, IndexError, EOFError, OSError) as error:
            self.add("pixels match the manifest", [str(error)])
            return None
        if stored.shape[1:] != expected:
            self.add(
                "shape as configured",
                [f"{folder / manifest.ARRAY} holds images of {stored.shape[1:]}, params.yaml: {expected}"],
            )
            return None
        return stored

    def run(self, part: str, frame: pd.DataFrame, listed: list[Rule]) -> None:
        """Ask GX and keep what it finds; `frame` has a column `place`, its rows' own numbers."""
        self.checked += dict.fromkeys(rule.name for rule in listed if rule.name not in self.checked)
        self.raw[part] = result = _ask(part, frame, listed)
        by_place = frame.set_index("place", drop=False)
        # GX answers in an order of its own; people read failures in ours
        for found in sorted(result["results"], key=lambda r: r["expectation_config"]["meta"]["order"]):
            if not found["success"]:
                self._keep(found, by_place)

    def _keep(self, found: dict[str, Any], frame: pd.DataFrame) -> None:
        config, result = found["expectation_config"], found["result"]
        if "unexpected_index_list" not in result and "observed_value" not in result:
            raise ExpectationError(
                f"{config['type']} {config['kwargs']} could not be computed: {found['exception_info']}"
            )
        places = [index["place"] for index in result.get("unexpected_index_list") or []]
        bad, shows = frame.loc[places], config["meta"]["shows"]
        values = [f"{v:g}" if isinstance(v, float) else str(v) for v in bad[shows]] if shows else [""] * len(bad)
        rows, files = (bad[c].tolist() if c in bad else [] for c in ("image_id", "file"))
        name = config["meta"]["name"]
        # a row that fails two rules of one name counts once
        new = [i for i, place in enumerate(places) if (name, place) not in self.seen]
        self.seen |= {(name, place) for place in places}
        texts = [values[i] for i in new] if places else [f"{result['observed_value']} rows"]
        self.add(
            name,
            texts,
            [rows[i] for i in new] if rows else [],
            [files[i] for i in new] if files else [],
            config["severity"],
        )

    def add(
        self,
        name: str,
        values: list[str],
        rows: Sequence[str] = (),
        files: Sequence[str] = (),
        severity: Any = "critical",
    ) -> None:
        """Note a failure; values that are about no image come without rows and files."""
        if name not in self.checked:
            self.checked.append(name)
        failure = self.failed.setdefault(name, Failure(name, severity, 0, hint=HINTS[name]))
        failure.count += len(values)
        failure.values += values
        failure.rows += rows
        failure.files += files

    def verdict(self, site: str, rows: pd.DataFrame | None) -> Verdict:
        usable = manifest.frame([]) if rows is None else _usable(rows)
        failures = [f for f in self.failed.values() if f.severity == "critical"]
        return Verdict(
            site=site if rows is None else names.find(site, set(rows["site"])) or site,  # FLARE knows its key only
            passed=not failures,
            digest="" if rows is None else manifest.digest(rows),
            images=0 if rows is None else len(rows),
            failures=failures,
            warnings=[f for f in self.failed.values() if f.severity == "warning"],
            counts=count(usable, self.params.image.labels),
            checked=self.checked,
        )


def _usable(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["problem"] == ""]


def _least(params: Params, rows: pd.DataFrame, site: str) -> tuple[dict[str, int], list[str]]:
    """Least images by split, and the labels that they are asked of."""
    least = {str(split): n for split, n in params.expectations.min_images.items()}
    if (rows["origin"] != "synthetic").any():
        there, only = set(rows["label"]), params.split.only(site)
        least = {split: n for split, n in least.items() if only in (None, split)}
        return least, [name for name in params.image.labels if params.expectations.every_class or name in there]
    balance = params.sample.balance
    asked = [name for name in params.image.labels if balance == "uniform" or balance.get(name, 0) > 0]
    return {split: n for split, n in least.items() if split == "train"}, asked


def _ask(part: str, frame: pd.DataFrame, listed: list[Rule]) -> dict[str, Any]:
    """GX's result as plain JSON, with the place of every row that fails."""
    gx = _great_expectations()
    from great_expectations import expectations as known
    from great_expectations.data_context.types.base import ProgressBarsConfig

    def expect(order: int, rule: Rule) -> Any:
        meta = {"name": rule.name, "shows": rule.shows, "order": order}
        return getattr(known, f"Expect{rule.kind}")(**rule.args, severity=rule.severity, meta=meta)

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = context.data_sources.add_pandas("set").add_dataframe_asset(part).add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(
        gx.ExpectationSuite(name=part, expectations=[expect(order, rule) for order, rule in enumerate(listed)])
    )
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=part, data=batch, suite=suite))
    columns = sorted({"place"}.union(*(rule.columns for rule in listed)))  # GX copies the frame often
    wanted = {"result_format": "COMPLETE", "unexpected_index_column_names": ["place"]}
    return definition.run(batch_parameters={"dataframe": frame[columns]}, result_format=wanted).to_json_dict()


@cache
def _great_expectations() -> Any:
    """The package, imported without the cyclic garbage collector: it makes hundreds of classes of pydantic, all of
    which stay. To search them for garbage takes a fifth of the import, and twice as long when the process ends.
    """
    quiet()
    collects = gc.isenabled()
    gc.disable()
    try:
        import great_expectations as gx
    finally:
        gc.freeze()
        if collects:
            gc.enable()
    return gx
