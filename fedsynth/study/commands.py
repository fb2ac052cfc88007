"""Commands that make a study and keep it: `fedsynth examples`, `init` and `upgrade`."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fedsynth import __version__
from fedsynth.errors import UserError
from fedsynth.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


def examples(as_json: AsJson = False) -> None:
    """List the examples that a study can begin with: their data, what is compared, minutes on two cores."""
    from rich.console import Console
    from rich.table import Table

    from fedsynth.study.examples import examples as listed

    found = listed()
    if as_json:
        typer.echo(json.dumps([{k: v for k, v in asdict(one).items() if k != "text"} for one in found], indent=1))
        return
    table = Table("name", "data", "what is compared", "minutes", box=None)
    for one in found:
        table.add_row(one.name, one.data, one.compares, one.minutes)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 160
    console.print(table)
    typer.echo("\nfedsynth init FOLDER --example NAME")


def init(
    folder: Annotated[Path, typer.Argument(help="the study's folder: new or empty")],
    example: Annotated[
        str, typer.Option(metavar="NAME", help="begin with an example; `fedsynth examples`")
    ] = "phantom",
    data: Annotated[Path | None, typer.Option(help="with --example: where its images lie")] = None,
) -> None:
    """Make a study: a folder with params.yaml, dvc.yaml and prefect.yaml, as a git and DVC repository."""
    from fedsynth import checks
    from fedsynth.study import create
    from fedsynth.study.examples import example as named

    chosen, here, folder = named(example), Path.cwd(), folder.absolute()
    about = f"It began as the example `{chosen.name}`: {chosen.data}."
    said = create.create(folder, create.of_example(chosen, data), about)
    typer.echo(f"{folder}: a study like the example {chosen.name}, {said}")
    missing = [] if data else create.unset(chosen)
    for name in missing:
        typer.echo(f"its images are not part of fedsynth ({chosen.data}): export {name}=FOLDER")
    if not missing:
        os.chdir(folder)
        _, problems = checks.of_file(folder / "params.yaml", source=True)
        if problems:
            raise UserError(checks.listed(folder / "params.yaml", problems))
    there = os.path.relpath(folder, here) if folder.is_relative_to(here) else str(folder)
    typer.echo(f"\n    cd {shlex.quote(there)}\n    fedsynth run\n")


def upgrade(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would change, line by line")] = False,
    take: Annotated[bool, typer.Option("--take", help="replace files that were edited here, too")] = False,
) -> None:
    """Bring a study that an earlier version made to the installed one: its files, and what to change in params.yaml."""
    from fedsynth import checks
    from fedsynth.study import layout
    from fedsynth.study import upgrade as files

    root = Settings.read().root
    os.chdir(root)
    before, found = layout.made(root).version, files.changes(root)
    typer.echo(f"made by fedsynth {before}, installed is {__version__}: {len(found)} files change")
    for change in found:
        typer.echo(f"  {change.words}")
        if dry_run:
            typer.echo("\n".join(change.lines))
    _, problems = checks.of_file(root / "params.yaml", source=False)
    if problems:
        raise UserError(f"nothing was changed: {checks.listed(root / 'params.yaml', problems)}")
    if dry_run:
        return
    files.upgrade(root, found, take)
    typer.echo("`fedsynth plan` says what a run would do again, and why" if found else "nothing to do")
