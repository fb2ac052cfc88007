"""A registered version as a released model: its hashes are checked, and whether it is stale, before it is read."""

from __future__ import annotations

import getpass
from importlib.util import find_spec
from pathlib import Path

from fedsynth.generation.released import ModelError, Released, read_about, study_of
from fedsynth.report.card import FILE, model_card
from fedsynth.training import weights

CHAMPION = "champion"  # names the champion of the only model that has one


def of_registry(study: Path, model: str, number: int | None = None, although: str = "", by: str = "") -> Released:
    """Return a version of a model, by default its champion.

    `although`: why a version that is stale or has no hashes is used nevertheless; it is written to the version with
    `by` (default: the user). Raises what fedsynth.registry.loading.admitted raises, and RegistryError for what is not
    there.
    """
    if find_spec("mlflow") is None:
        raise ModelError("the registry is read by MLflow, which is not here: pip install 'fedsynth[centre]'")
    from fedsynth.registry import history, loading, promotion, server
    from fedsynth.registry.versions import client_of, version_of

    model, number = _chosen(study, model, number)
    version = version_of(study, model, server.champion(study, model) if number is None else number)
    with loading.admitted(study, version, although) as found:
        about = read_about(found.title, found.data / weights.ABOUT)
        card = found.folder / FILE
        made = Released(
            title=found.title,
            about=about,
            family=loading.generator(found).family,
            card=card.read_text(encoding="utf-8") if card.is_file() else model_card(about, None),
            verdict=promotion.said(version.tags),
            held=["every file of the version against its hashes, and these against the registry"] if found.kept else [],
            objections=[f"{said} (used although: {although})" for said in found.objections],
            number=int(version.version),
            study=study_of(study, about),
        )
        if found.objections:
            who = by or getpass.getuser()
            history.overruled(client_of(study), version, "drawn", "Drawn from", who, although, found.objections)
    return made


def _chosen(study: Path, model: str, number: int | None) -> tuple[str, int | None]:
    from fedsynth.registry import server

    if model != CHAMPION:
        return model, number
    if number is not None:
        raise ModelError(f"--version {number} goes with a model's name: `{CHAMPION}` is a version itself")
    return server.only_champion(study)
