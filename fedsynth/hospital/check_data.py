"""Checks of a site's image set: pixel hashes and, where params.yaml is available, the validation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from fedsynth.data.manifest import FILE, SPLITS
from fedsynth.errors import UserError
from fedsynth.params import names
from fedsynth.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
from fedsynth.hospital.findings import Finding, fails, warns


def data(settings: Settings, name: str) -> Iterator[Finding]:
    """Check the pixels of the site's image set against its manifest, and the set against the expectations.

    The expectations are checked only where params.yaml is available; no validation report is written.
    """
    if not name:
        yield warns(
            "data",
            "not looked at: the site's name is not known",
            "give it with --site NAME, or the startup kit with --kit FOLDER",
        )
        return
    if not os.environ.get("FEDSYNTH_DATA"):
        yield warns("data", "not looked at: FEDSYNTH_DATA is not set", "set it, then check again")
        return
    folder = settings.data / names.key(name)
    if not (folder / FILE).is_file():
        yield fails(
            "data",
            f"{folder / FILE} is not there",
            f"fedsynth ingest --site {quote(name)} (in the folder of params.yaml)",
        )
        return
    from fedsynth.data.dataset import ImageSet

    try:
        found = ImageSet.load(folder)
    # numpy and pandas raise these for files that they cannot read
    except (UserError, ValueError, IndexError, EOFError, OSError) as error:
        yield fails("data", str(error), f"make the set again: fedsynth ingest --site {quote(name)}")
        return
    yield contents(found.manifest)
    if (settings.root / "params.yaml").is_file():
        yield validation(settings.root / "params.yaml", folder, name)
    else:
        yield warns(
            "validation",
            f"no params.yaml in {settings.root}",
            "run this in the folder of the consortium's params.yaml to validate",
        )


def contents(rows: pd.DataFrame) -> Finding:
    """Count the images by class and split: "48 images: none 16 (10 train, 2 val, 4 test), …"."""
    parts = []
    for label, some in rows.groupby("label"):
        splits = some["split"].value_counts()
        parts.append(
            f"{label or '(no label)'} {len(some)} ({', '.join(f'{splits[s]} {s}' for s in SPLITS if s in splits)})"
        )
    text = f"{len(rows)} images: {', '.join(parts)}"
    if bad := int((rows["problem"] != "").sum()):
        return warns(
            "data",
            f"{text}; {bad} could not be used",
            "the validation's report names them: fedsynth validate FOLDER --docs FOLDER",
        )
    return (
        Finding("data", text)
        if len(rows)
        else fails("data", "a set without images", "check the table of your images, then ingest again")
    )


def validation(path: Path, folder: Path, name: str) -> Finding:
    from fedsynth import params
    from fedsynth.validation import expectations

    try:
        verdict = expectations.validate(folder, params.load(path), name, docs=None)
    except params.ParamsError as error:
        return fails("validation", str(error), "ask the centre for the params.yaml of this version of fedsynth")
    count = f"{len(verdict.checked)} expectations"
    if verdict.passed:
        return Finding("validation", f"passed, {count}, {len(verdict.warnings)} with warnings")
    names = ", ".join(f.expectation for f in verdict.failures)
    return fails(
        "validation",
        f"{len(verdict.failures)} of {count} failed: {names}",
        f"fedsynth validate {folder} names rows, files, remedy",
    )
