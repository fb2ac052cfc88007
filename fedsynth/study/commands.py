"""Commands that make a study and keep it: `fedsynth examples`, `init` and `upgrade`."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fedsynth import __version__
from fedsynth.errors import UserError
from fedsynth.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


def examples(as_json: AsJson = False) -> None:
    """List the examples that a study can begin with: data, what is compared, minutes on two cores."""
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
    typer.echo(
        "\nMinutes: about, on two idle cores. FEDSYNTH_…: images that are not part of fedsynth;"
        " --data says where they are.\nWithout --example it is phantom."
        "\n\n    fedsynth init FOLDER --example NAME [--data IMAGES]\n"
    )


def init(
    folder: Annotated[Path, typer.Argument(help="the study's folder: new or empty")],
    example: Annotated[
        str, typer.Option(metavar="NAME", help="begin with an example: `fedsynth examples`; default: phantom")
    ] = "",
    source: Annotated[
        Path | None, typer.Option("--from", metavar="PATH", help="begin with these images: look, and write params.yaml")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="with --example: where its images lie")] = None,
    name: Annotated[str, typer.Option(help="of the study, in MLflow and Prefect; default: the folder's")] = "",
) -> None:
    """Make a study: a folder with params.yaml, dvc.yaml and prefect.yaml, as a git and DVC repository."""
    from fedsynth.study import create

    if source and (example or data):
        raise UserError("--from begins with images of your own, --example with an example: say one of them")
    here, folder = Path.cwd(), folder.absolute()
    name = name or folder.name
    create.possible(folder, name)
    begun = create.from_images(source.absolute(), name) if source else create.from_example(example or "phantom", data)
    if begun.found:
        typer.echo(begun.found)
    said = create.create(folder, name, begun)
    typer.echo(f"{folder}: a study, {said}")
    for file in begun.files:
        if file.endswith(".csv"):
            said = "lists your files by name and is in the study's git: push it to nobody who must not read them"
            typer.echo(f"{file} {said}")
    if begun.unset:
        typer.echo("its images are not part of fedsynth: say where they are, as below, or begin with --data FOLDER")
    else:
        with contextlib.chdir(folder):  # where the paths of its params.yaml begin
            create.sound(folder)
    there = os.path.relpath(folder, here) if folder.is_relative_to(here) else str(folder)
    if begun.attention:
        typer.echo(f"\n{begun.attention}")
    exports = [f"export {variable}=FOLDER" for variable in begun.unset]
    typer.echo("\n" + "".join(f"    {line}\n" for line in (f"cd {shlex.quote(there)}", *exports, "fedsynth run")))


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
    before = layout.made(root)
    found = files.changes(root, before)
    typer.echo(f"made by fedsynth {before.version}, installed is {__version__}; files that change: {len(found)}")
    for change in found:
        typer.echo(f"  {change.words}")
        if dry_run:
            typer.echo("\n".join(change.lines))
    _, problems = checks.of_file(root / "params.yaml", source=False)
    if problems:
        raise UserError(f"nothing was changed: {checks.listed(root / 'params.yaml', problems)}")
    for said in files.moved(root):
        typer.echo(said)
    if dry_run:
        return
    files.upgrade(root, before.name, found, take)
    typer.echo("`fedsynth plan` says what a run would do again, and why" if found else "nothing to do")


def status(as_json: AsJson = False) -> None:
    """Show what runs, the last run, sites, versions in use, what is stale, and what is on disk."""
    from fedsynth.study import status_text, verbs

    told = verbs.status()
    typer.echo(json.dumps(told, indent=1) if as_json else status_text.words(told))


def clean(
    keep: Annotated[int | None, typer.Option(min=1, help="runs to keep; default: keep_runs of params.yaml")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say how much it is")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is no longer needed and how much it is, then delete it: jobs, states, data of earlier runs.

    What a site must remember stays: policy, record, ledger, who was trained on. Versions in the registry stay, too.
    """
    from fedsynth import params
    from fedsynth.stages import last_run
    from fedsynth.study import leftovers
    from fedsynth.study.status_text import megabytes

    settings = Settings.read()
    os.chdir(settings.root)
    if last_run.read(settings.root).get("outcome") == last_run.RUNNING:
        raise UserError("a run is going on; clean once it has ended (`fedsynth status`)")
    runs = keep or params.keep_runs(settings.root)
    found = leftovers.leftovers(settings, runs)
    delete = bool(found) and not dry_run
    if as_json:
        rows = [{"what": one.what, "bytes": one.size, "paths": [str(p) for p in one.paths]} for one in found]
        typer.echo(json.dumps({"keep": runs, "deletes": delete and yes, "leftovers": rows}, indent=1))
        delete = delete and yes
    else:
        for one in found:
            typer.echo(f"{megabytes(one.size):>10}  {one.what}: {len(one.paths)}")
        typer.echo(f"{megabytes(sum(one.size for one in found)):>10}  in all, beyond the last {runs} runs")
        delete = delete and (yes or typer.confirm("delete it?"))
    for one in found if delete else []:
        leftovers.remove(one, settings.root, runs)


def metrics(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="serve them at 127.0.0.1 until Ctrl-C; default: print them")
    ] = None,
) -> None:
    """Print the last run, its stages, rounds, sites and gates as Prometheus text, or serve it."""
    from fedsynth.study import metrics as of_files

    root = Settings.read().root
    if port is None:
        typer.echo(of_files.text(root), nl=False)
        return
    typer.echo(f"http://127.0.0.1:{port}/metrics")
    of_files.serve(root, port)


def promote(
    model: Annotated[str, typer.Argument(help="a key of models in params.yaml")],
    version: Annotated[int | None, typer.Option(help="default: the newest")] = None,
    approve: Annotated[str, typer.Option(metavar="NAME", help="who answers for it: nobody is asked")] = "",
    why: Annotated[str, typer.Option(help="with --approve: the reason")] = "",
    although: Annotated[
        str, typer.Option(metavar="TEXT", help="why, where it is not better, nothing is required, or it is stale")
    ] = "",
    wait: Annotated[int | None, typer.Option(metavar="SECONDS", help="for a person's approval; default: a day")] = None,
) -> None:
    """Make a version the champion, once its gates hold and a person has approved it."""
    given = {"--version": version, "--approve": approve, "--why": why, "--although": although, "--wait": wait}
    _promote(model, given)


def rollback(
    model: Annotated[str, typer.Argument(help="a key of models in params.yaml")],
    by: Annotated[str, typer.Option(metavar="NAME", help="who decides; one of promote.approvers, if there are")],
    why: Annotated[str, typer.Option(help="the reason")],
    although: Annotated[str, typer.Option(metavar="TEXT", help="why, where it is stale or has no hashes")] = "",
) -> None:
    """Make the previous champion the champion again."""
    _promote("rollback", {"--by": by, "--why": why, "--although": although}, model)


def answer(
    run: Annotated[str, typer.Argument(help="the flow run's id, as the promotion has printed it")],
    by: Annotated[str, typer.Option(metavar="NAME", help="who decides")],
    why: Annotated[str, typer.Option(help="the reason")],
    refuse: Annotated[bool, typer.Option("--refuse", help="do not promote it")] = False,
) -> None:
    """Approve or refuse a promotion that waits for it."""
    _promote("answer", {"--by": by, "--why": why}, run, *(["--refuse"] if refuse else []))


def _promote(first: str, options: Mapping[str, object], *more: str) -> None:
    """Go on as `python -m flows.promote`: the flow's program, which imports Prefect."""
    given = [f"{name}={value}" for name, value in options.items() if value not in (None, "")]
    os.execv(sys.executable, [sys.executable, "-m", "flows.promote", first, *more, *given])


STUDY, MODELS = (init, examples, status, metrics, clean, upgrade), (promote, rollback, answer)
