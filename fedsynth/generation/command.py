"""`fedsynth generate`: what it is asked for, how far it is, and what it has done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsynth.generation import formats
from fedsynth.settings import Settings

if TYPE_CHECKING:
    from fedsynth.generation.writing import Tell


def generate(
    model: Annotated[
        str, typer.Argument(help="champion; a model's name; or a folder or archive that holds a model (./vae)")
    ],
    images: Annotated[int, typer.Option(min=1, metavar="N", help="how many")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="the set's folder, new or empty")],
    label: Annotated[
        list[str] | None, typer.Option(help="may be repeated, in equal shares; default: as the study's sample.balance")
    ] = None,
    format: Annotated[str, typer.Option(help=", ".join(formats.names()))] = "png",
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, metavar="N", help="the same seed gives the same images")
    ] = 0,
    version: Annotated[int | None, typer.Option(help="of a model's name; default: its champion")] = None,
    given: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="images with the channels that a model is given")
    ] = None,
    although: Annotated[
        str, typer.Option(metavar="TEXT", help="why, where the version is stale or has no hashes")
    ] = "",
    by: Annotated[str, typer.Option(metavar="NAME", help="with --although: who decides; default: the user")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Draw a synthetic set from a released model, check it as real data are, and write it with datasheet and card.

    The hashes of the model's files are checked before anything of them is read. DIR is there once it is complete.
    """
    from fedsynth.generation import writing

    with _shown() as tell:
        done = writing.generate(
            model, images, out, label, format, seed, given=given, version=version, study=Settings.read().root,
            although=although, by=by, tell=tell,
        )  # fmt: skip
    typer.echo(json.dumps(done, indent=1) if as_json else words(done))


def words(done: dict[str, Any]) -> str:
    """Return in words what was done."""
    labels = ", ".join(f"{n} {label}" for label, n in done["labels"].items() if n)
    mends = ", ".join(f"{n} {what}" for what, n in done["mends"].items() if n)
    lines = [
        f"{done['out']}: {done['images']} images ({labels}) by {done['title']}, seed {done['seed']}, {done['format']}",
        f"  of the model: {'; '.join([*done['held'], *done['objections']])}; gates: {done['verdict'] or 'not known'}",
        f"  of the images: {len(done['checked'])} expectations hold{'; ' * bool(mends)}{mends}",
    ]
    lines += [f"  warning: {what} ({n})" for what, n in done["warnings"].items()]
    return "\n".join([*lines, "  DATASHEET.md and MODEL_CARD.md say what it is, and what it is not for"])


@contextmanager
def _shown() -> Iterator[Tell]:
    """Show on the error stream how far it is, where a person sees it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading the model", total=None)

        def tell(what: str, done: int, of: int) -> None:
            progress.tasks[task].total = of or None  # `update` takes None for no change
            progress.update(task, description=what, completed=done)

        yield tell
