"""The command line: the stages of dvc.yaml that run at the centre, and tools.

Heavy packages are imported by the commands that need them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedsynth import __version__
from fedsynth.errors import UserError
from fedsynth.generation.command import generate
from fedsynth.hospital import commands
from fedsynth.processes import in_utf8
from fedsynth.settings import Settings, quiet
from fedsynth.study import commands as of_study
from fedsynth.study.checking import check

if TYPE_CHECKING:
    from fedsynth.params import Params

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Hospitals train generative models of medical images together: a study, its models, a hospital's say.",
)


STUDY, MODELS, HOSPITAL = "A study", "Models in use", "At a hospital"
DOCS = Path(__file__).parent / "docs"  # in a checkout a link to the folder at its top
STAGES, TOOLS = "Stages of dvc.yaml that run at the centre", "This installation"
for panel, group in ((STUDY, of_study.STUDY), (MODELS, (*of_study.MODELS, generate))):
    for command in group:
        app.command(rich_help_panel=panel)(command)


@app.command(rich_help_panel=STUDY)
def run(
    values: Annotated[
        list[str] | None,
        typer.Option(
            "-S",
            "--set",
            metavar="KEY=VALUE",
            help="another value than params.yaml has, or a params file, for this run alone: an experiment of DVC",
        ),
    ] = None,
    models: Annotated[str, typer.Option(metavar="NAMES", help="only these, such as vae,gan; default: all")] = "",
) -> None:
    """Run the pipeline: all stale stages, then the registry, as a Prefect flow. Same as python -m flows."""
    words = [word for value in values or [] for word in ("-S", value)] + (["--models", models] if models else [])
    os.execv(sys.executable, [sys.executable, "-m", "flows", *words])


@app.command(rich_help_panel=STUDY)
def plan(as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False) -> None:
    """Show what a run would do, without running it: the stages, why, their estimated time and disk space."""
    from fedsynth.stages import inputs, plan_text

    settings, params = _start()
    inputs.checked(settings.root, inputs.texts(settings.root, params, settings), settings)
    typer.echo(
        plan_text.as_json(settings.root, params, settings)
        if as_json
        else plan_text.words(settings.root, params, settings)
    )


@app.command(rich_help_panel=STAGES)
def ingest(
    site: Annotated[str | None, typer.Option(help="only this site; default: all that the source names")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="read what has not changed since the last ingest, too")] = False,
) -> None:
    """Read the source's images, resample and scale them, and write an image set with its manifest for each site."""
    from fedsynth.stages import ingest as stage

    settings, params = _start()
    if not settings.simulation and site is None:
        settings.data.mkdir(parents=True, exist_ok=True)
        typer.echo("ingest: in a federation each site ingests its own images, with `fedsynth ingest --site NAME`")
    elif site is None:
        stage.ingest(params, settings.data, settings.state, anew)
    else:
        stage.ingest_site(
            params,
            params.source.build(image=params.image.sourced, seed=params.seed),
            site,
            settings.data,
            settings.state,
            anew,
        )


@app.command(rich_help_panel=STAGES)
def validate(
    folder: Annotated[Path, typer.Argument(help="a set: the folder with manifest.csv and images.npy")],
    site: Annotated[str, typer.Option(help="name in the messages; default: the folder's")] = "",
    docs: Annotated[Path | None, typer.Option(help="where to write the report; nothing is written without it")] = None,
) -> None:
    """Check one set, real or synthetic, with the expectations of the federation. Exit code 1 if it fails."""
    from fedsynth.hospital import secret
    from fedsynth.params import names
    from fedsynth.validation import expectations

    settings, params = _start()
    verdict = expectations.validate(folder.resolve(), params, site or folder.name, docs)
    typer.echo(verdict.message())
    own = settings.state / names.key(site or folder.name)
    if verdict.digest and (own / secret.FILE).is_file():
        typer.echo(f"  digest as the centre gets it: {secret.keyed(own, verdict.digest)}")
    raise typer.Exit(0 if verdict.passed else 1)


@app.command(rich_help_panel=STUDY)
def look(
    data: Annotated[
        Path | None, typer.Argument(help="an ingested set, or a folder of sets; default: every set under data/sites")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="most images on a page")] = 60,
    to: Annotated[
        Path | None, typer.Option(help="folder for the page of one set; default: the site's own, <state>/<site>/look")
    ] = None,
) -> None:
    """Show a set's images as models will see them, with masks outlined: an HTML page that stays at the site."""
    from fedsynth.validation import look as page

    data, to = data and data.resolve(), to and to.resolve()
    settings, params = _start()
    folders = page.sets(data or settings.data)
    if to and len(folders) > 1:
        raise UserError(f"--to is for one set, and {data or settings.data} holds {len(folders)}; name one of them")
    for folder in folders:
        typer.echo(page.write(folder, params, to or settings.state / folder.name / page.FOLDER, images))


@app.command(rich_help_panel=STAGES)
def pretrain() -> None:
    """Train on public images what models begin with that ask for it (models.<name>.pretrain)."""
    from fedsynth.stages import pretrain as stage

    settings, params = _start()
    stage.pretrain(params, settings.root)


@app.command(rich_help_panel=STAGES)
def sample(model: Annotated[str, typer.Argument(help="a key of models in params.yaml")]) -> None:
    """Draw a synthetic set from a trained model and validate it."""
    from fedsynth.stages import sample as stage

    settings, params = _start()
    stage.sample(params, settings.root, model)


@app.command(rich_help_panel=STAGES)
def export(model: Annotated[str, typer.Argument(help="a key of models in params.yaml")]) -> None:
    """Export a synthetic set with its verdict: an archive for each exporter, with datasheet and model card."""
    from fedsynth.stages import export as stage

    settings, params = _start()
    stage.export(params, settings.root, model)


@app.command(rich_help_panel=STAGES)
def report() -> None:
    """Write the report: pictures, losses and the table of worth."""
    from fedsynth.stages import report as stage

    settings, params = _start()
    stage.report(params, settings.root, settings.root / "reports" / "report", simulation=settings.simulation)
    if not settings.events:  # the flow logs itself, while stages run and when all have ended
        from fedsynth.registry import record

        record.record(settings.root, params)


app.command(rich_help_panel=STUDY)(check)


@app.command(rich_help_panel=MODELS)
def serve(
    model: Annotated[str, typer.Argument(help="a key of models in params.yaml")],
    version: Annotated[int | None, typer.Option(help="default: the champion")] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5001,
    although: Annotated[
        str, typer.Option(metavar="TEXT", help="why, where the version is stale or has no hashes")
    ] = "",
    by: Annotated[str, typer.Option(metavar="NAME", help="with --although: who decides; default: the user")] = "",
) -> None:
    """Serve a registered model, once the hashes of its files hold: labels in, images out, until Ctrl-C."""
    import getpass

    from fedsynth.registry import server

    server.serve(Settings.read().root, model, version, host, port, by or getpass.getuser(), although)


@app.command(rich_help_panel=TOOLS)
def env() -> None:
    """Show the environment variables with their meanings and current values."""
    from rich.console import Console
    from rich.table import Table

    table = Table("variable", "value", "meaning", box=None)
    for row in Settings.read().rows():
        table.add_row(*row)
    Console(highlight=False).print(table)


@app.command(rich_help_panel=TOOLS)
def docs(
    page: Annotated[str, typer.Argument(metavar="PAGE", help="such as hospital; default: list them")] = "",
) -> None:
    """List the pages of the documentation, which come with the package, or print one as Markdown."""
    from rich.console import Console
    from rich.table import Table

    from fedsynth.params.near import near

    pages = {path.stem: path for path in sorted(DOCS.glob("*.md"))}
    name = page.removeprefix("docs/").removesuffix(".md")
    if not page:
        table = Table("page", "title", box=None)
        for stem, path in pages.items():
            with path.open(encoding="utf-8") as file:
                table.add_row(stem, file.readline().removeprefix("# ").strip())
        Console(highlight=False, markup=False).print(table)
        typer.echo(f"\nThey lie in {DOCS}")
    elif name in pages:
        typer.echo(pages[name].read_text(encoding="utf-8"))
    else:
        raise UserError(f"there is no page {page!r}: `fedsynth docs` lists them{near(name, pages)}")


@app.command(rich_help_panel=TOOLS)
def version() -> None:
    """Show the version."""
    typer.echo(__version__)


app.add_typer(commands.policy, name="policy", rich_help_panel=HOSPITAL)
app.command(rich_help_panel=HOSPITAL)(commands.audit)
app.command(rich_help_panel=HOSPITAL)(commands.forget)


def _start() -> tuple[Settings, Params]:
    from fedsynth.stages import inputs

    settings = Settings.read()
    os.chdir(settings.root)
    return settings, inputs.params_of_run(settings.root, settings)


def main() -> None:
    in_utf8()
    quiet()
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
