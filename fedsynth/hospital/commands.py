"""Commands of a hospital: `fedsynth policy` (init, show, pause, resume), `fedsynth audit` and `fedsynth forget`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from fedsynth.errors import UserError
from fedsynth.params import names
from fedsynth.settings import Settings

policy = typer.Typer(no_args_is_help=True, help="What may be asked of this hospital: init, show, pause, resume.")
StudyName = Annotated[str, typer.Option("--study", help="only this study; default: all jobs")]
SiteName = Annotated[str | None, typer.Option("--site", help="the site's name; default: the only one here")]


@policy.command()
def init(
    params: Annotated[Path, typer.Argument(help="the params.yaml that the consortium has agreed on")] = Path(
        "params.yaml"
    ),
    study: Annotated[str, typer.Option(help="your name for it; a policy may hold several studies")] = "study",
    site: SiteName = None,
    to: Annotated[Path | None, typer.Option(help="the file; default: FEDSYNTH_POLICY, or in the site's state")] = None,
    submitter: Annotated[list[str] | None, typer.Option(help="who may submit jobs; may be repeated")] = None,
    epsilon: Annotated[float | None, typer.Option(help="require differential privacy, and cap epsilon a year")] = None,
    force: Annotated[bool, typer.Option("--force", help="put another params.yaml in the place of the study's")] = False,
) -> None:
    """Write this hospital's policy from the params.yaml that the consortium has agreed on. Read it, then own it.

    What a policy that is there says of other studies and in other sections stays as it is.
    """
    from fedsynth.hospital.policy import agree, load
    from fedsynth.params import load as read

    settings = Settings.read()
    path = (to or _path(settings, site, there=False)).resolve()
    before = load(path)[0] if path.exists() else None
    if before is not None and before.studies.get(study, agree.ANY).params is not None and not force:
        raise UserError(
            f"{path} is there already, with the study {study}; read it with `fedsynth policy show`. Another study:"
            " --study NAME; another params.yaml of this one: --force"
        )
    agree.write(path, agree.agreed_to(before, study, read(params.resolve()), submitter, epsilon))
    _show(path)
    typer.echo(f"\n{path}: read it, give it to another owner than FLARE's user (chown root), then `fedsynth check`")


@policy.command()
def show(site: SiteName = None) -> None:
    """Say in sentences what this hospital's policy allows, and whether jobs are paused."""
    _show(_path(Settings.read(), site))


@policy.command()
def pause(
    reason: Annotated[str, typer.Argument(help="kept at this site")] = "",
    study: StudyName = "",
    site: SiteName = None,
) -> None:
    """Refuse jobs from now on, also those that are running; rounds go on without this hospital by a quorum."""
    mark = _mark(site, study)
    mark.write_text(f"{reason}\n", encoding="utf-8")
    which, again = (f"jobs of the study {study}", f" --study {study}") if study else ("all jobs", "")
    typer.echo(f"{which} are refused ({mark}); `fedsynth policy resume{again}` lets them in again")


@policy.command()
def resume(study: StudyName = "", site: SiteName = None) -> None:
    """Let jobs in again."""
    mark = _mark(site, study)
    typer.echo("jobs are let in again" if mark.is_file() else "jobs were not paused")
    mark.unlink(missing_ok=True)


def _mark(site: str | None, study: str) -> Path:
    """Return the file that pauses a study, or all jobs. Raises UserError where the policy has no such study."""
    from fedsynth.hospital.policy import load
    from fedsynth.hospital.policy.model import pause_mark
    from fedsynth.params.near import near

    path = _path(Settings.read(), site)
    if study and study not in (there := list(load(path)[0].studies)):
        raise UserError(f"{path} has no study {study}; it has {', '.join(there)}{near(study, there)}")
    return pause_mark(path, study)


def audit(
    site: SiteName = None,
    days: Annotated[int | None, typer.Option(min=1, help="only the last days; default: all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON for each entry, for a SIEM")] = False,
    page: Annotated[Path | None, typer.Option(help="write a page for the data-protection officer, too")] = None,
) -> None:
    """Show what was asked of this hospital, what it refused, and what has left, from its own record."""
    from fedsynth.hospital import audit as of

    settings = Settings.read()
    folder = settings.state / _site(settings, site)
    entries = of.entries(folder, days)
    if page is not None:
        page = page.resolve()
        page.write_text(of.page(folder.name, entries), encoding="utf-8")
    if as_json:
        for entry in entries:
            typer.echo(json.dumps(entry, sort_keys=True, ensure_ascii=False))
    else:
        of.show(folder.name, entries)
        typer.echo(f"page: {page}" if page else "", nl=bool(page))


def forget(
    subjects: Annotated[list[str], typer.Argument(metavar="SUBJECT...", help="as in the table of the source")],
    site: Annotated[str, typer.Option(help="the site's name, or its key")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    show: Annotated[
        bool, typer.Option("--list", help="show the names of similar subjects, where one is unknown")
    ] = False,
) -> None:
    """At a hospital: take patients who withdraw out of the site's set and of all that was made from their images."""
    from fedsynth.hospital import forget as withdrawal

    settings = Settings.read()
    found = withdrawal.plan(withdrawal.site_of(settings, site), subjects, show)
    if not yes:
        typer.echo(withdrawal.words(found, settings, done=False))
        typer.confirm("Go on?", abort=True)
    withdrawal.carry_out(found)
    typer.echo(withdrawal.words(found, settings, done=True))


def _show(path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from fedsynth.hospital.policy import load, paused
    from fedsynth.hospital.policy.words import sentences

    found, digest = load(path)
    table = Table(box=None, show_header=False)
    table.add_column("section", no_wrap=True)
    table.add_column("meaning", overflow="fold")
    for section, said in sentences(found):
        table.add_row(section, said)
    Console(highlight=False, markup=False).print(table)
    for name in found.studies:
        if (why := paused(path, name)) is not None:
            typer.echo(f"PAUSED, jobs of the study {name} are refused: {why}")
    why, writable = paused(path), os.access(path, os.W_OK)
    typer.echo(f"{path} (digest {digest[:16]}){', which this user can write' if writable else ''}")
    typer.echo(f"PAUSED, all jobs are refused: {why}" if why is not None else "jobs are let in")


def _path(settings: Settings, site: str | None, there: bool = True) -> Path:
    """Return the file of the policy: FEDSYNTH_POLICY, or in the state folder of the site."""
    from fedsynth.hospital.policy import NoPolicy
    from fedsynth.hospital.policy.model import place

    path = settings.policy or place(settings, settings.state / _site(settings, site))  # the former needs no site
    if there and not path.is_file():
        raise NoPolicy("the file", f"{path} is not there; make it with `fedsynth policy init`")
    return path


def _site(settings: Settings, site: str | None) -> str:
    """Return the key of the site, by default of the only one that has a folder in the state."""
    if site is not None:
        return names.key(site)
    there = sorted(p.name for p in settings.state.glob("*") if p.is_dir() and p.name not in names.RESERVED)
    if len(there) != 1:
        said = f"it holds those of {', '.join(there)}" if there else "it holds none yet"
        raise UserError(f"--site is not given, and {settings.state} does not say which it is: {said}")
    return there[0]
