"""Aliases that a person has changed in MLflow's own page, past gates, approval and history: noticed, and said.

Which version an alias was given to by `promote` and `rollback` stands in tags of the registered model. Where the alias
names another, somebody has changed it; MLflow does not keep who and when.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedsynth.registry.place import there
from fedsynth.registry.versions import client_of, model_of, models_of_study

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

CHAMPION, PREVIOUS = "champion", "previous"  # aliases: the version in use, and the one that it replaced
RECORDED, NO_VERSION = "alias.", "none"  # alias.<alias>: the version that it was given to, or "none"


def point(client: MlflowClient, name: str, alias: str, number: str | None) -> None:
    """Give an alias of a registered model to a version, or to none, and record it."""
    if number is None:
        client.delete_registered_model_alias(name, alias)
    else:
        client.set_registered_model_alias(name, alias, number)
    client.set_registered_model_tag(name, f"{RECORDED}{alias}", number or NO_VERSION)


def recorded(root: Path, name: str, alias: str) -> str | None:
    """Return the version that `point` gave an alias to last, None if none.

    Before there were these tags, the history of a champion told that it was promoted.
    """
    client = client_of(root)
    model = client.get_registered_model(name)
    if (said := model.tags.get(f"{RECORDED}{alias}")) is not None:
        return None if said == NO_VERSION else said
    if (number := model.aliases.get(alias)) is None or f"{RECORDED}{CHAMPION}" in model.tags:
        return None
    promoted = alias == PREVIOUS or "promotion.at" in client.get_model_version(name, str(number)).tags
    return str(number) if promoted else None


def changed(root: Path, model: str) -> str:
    """Return what is to be said where an alias of a model was changed by hand, "" where none was."""
    return "; ".join(said for of in models_of_study(root) if model_of(of.name) == model for said in _changes(root, of))


def lines(root: Path) -> list[str]:
    """Return a line for each alias of the study's models that was changed by hand."""
    return [said for model in models_of_study(root) for said in _changes(root, model)] if there(root) else []


def _changes(root: Path, model: RegisteredModel) -> Iterator[str]:
    for alias in (CHAMPION, PREVIOUS):
        number, known = model.aliases.get(alias), recorded(root, model.name, alias)
        if (number and str(number)) == known:
            continue
        now = f"version {number} is the {alias}" if number else f"no version is the {alias}"
        yield (
            f"{model.name}: {now}, and {f'version {known}' if known else 'no version'} was made that by a promotion:"
            " somebody has changed the alias by hand, as in MLflow's page; who and when is not known;"
            f" {_mend(model_of(model.name), alias, number, known)}"
        )


def _mend(model: str, alias: str, number: str | None, known: str | None) -> str:
    """Return what to do: undo it, or let a person answer for it."""
    back = f"give it to version {known} again there" if known else "delete it there"
    if number is None or alias == PREVIOUS:
        return back
    return f"{back}, or let a person answer for it: `fedsynth promote {model} --version {number}`"
