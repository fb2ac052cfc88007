"""`fedsynth check`: a params file, a hospital's site, or both, as text and as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from fedsynth.errors import UserError
from fedsynth.settings import Settings


@dataclass
class Checked:
    """What was found: `problems` of the params file `file`, None where there is none; `site`, rows of a hospital's."""

    file: Path | None
    problems: list[str] = field(default_factory=list)
    text: str = ""  # on the params file, for a person
    site: list[Any] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.problems and all(row.verdict != "fails" for row in self.site)


def check(
    file: Annotated[Path | None, typer.Argument(help="the params file; default: params.yaml")] = None,
    site: Annotated[str | None, typer.Option(help="the site's name; default: the one that the kit names")] = None,
    kit: Annotated[
        Path | None, typer.Option(help="the site's startup kit, the folder with startup/ and local/")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds to wait for the server")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Check a params file, and a hospital's site: installation, folders, data, startup kit and server.

    All problems of the params file are listed at once. The site is checked if --site, --kit or FEDSYNTH_DATA is given,
    or if there is no params.yaml. Exit code 1 if a check fails.
    """
    found = _checked(file, site, kit and kit.resolve(), timeout)
    if as_json:
        told = {
            "passed": found.passed,
            "file": str(found.file) if found.file else None,
            "problems": found.problems,
            "site": [asdict(row) for row in found.site],
        }
        typer.echo(json.dumps(told, indent=1, default=str))
    else:
        _show(found)
    raise typer.Exit(0 if found.passed else 1)


def _checked(file: Path | None, site: str | None, kit: Path | None, timeout: float) -> Checked:
    from fedsynth.hospital import check as hospital

    settings = Settings.read()
    study = (file or settings.root / "params.yaml").resolve()
    os.chdir(settings.root)  # where the paths of a params file begin
    at_site = bool(site or kit or os.environ.get("FEDSYNTH_DATA") or not (file or study.is_file()))
    if file or study.is_file():
        # a hospital checks its own files in ingest, and in a federation the centre has none of them
        found = _of_params(study, source=settings.simulation and not at_site, given=not at_site)
    else:
        found = Checked(None, text=f"no params.yaml in {study.parent}: checking a hospital's site")
    found.site = list(hospital.site(settings, site, kit, timeout)) if at_site else []
    return found


def _of_params(path: Path, source: bool, given: bool) -> Checked:
    from fedsynth import checks

    try:
        params, problems = checks.of_file(path, source, given)
    except UserError as error:
        return Checked(path, [str(error)], str(error))
    text = checks.listed(path, problems) if problems or not params else f"{path.name}: no problem"
    return Checked(path, [str(problem) for problem in problems], text)


def _show(found: Checked) -> None:
    from rich.console import Console
    from rich.table import Table

    typer.echo(found.text)
    if not found.site:
        return
    table = Table(box=None)
    for column in ("what", "found", "verdict", "what to do"):
        table.add_column(column, overflow="fold")
    for row in found.site:
        table.add_row(row.what, row.found, row.verdict, row.todo)
    Console(highlight=False, markup=False).print(table)
