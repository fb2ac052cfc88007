"""Versions that were trained with images which a hospital has withdrawn since: neither promoted nor served.

The centre learns of a withdrawal by the digests of a site's earlier sets alone (fedsynth/worth/withdrawn.py); each
version has the digests that it was trained with in its tags. So the two are compared, and nobody learns who withdrew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fedsynth.params import names
from fedsynth.registry import began, history
from fedsynth.registry.lineage import key
from fedsynth.registry.place import there
from fedsynth.registry.promotion import Refused
from fedsynth.registry.versions import RegistryError, client_of, model_of, models_of_study, of_study, version_of
from fedsynth.worth import withdrawn

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

TAG, WITHDRAWN = "stale", "data withdrawn"
OF_SITE, CLEARED = "withdrawn.", "stale.cleared"  # withdrawn.<site>: "<when> <digest>"; stale.cleared.by, .why, …


class Stale(Refused):
    """A version was trained with images that a hospital has withdrawn; the message says what to do."""


def mark(root: Path) -> list[str]:
    """Mark all versions that were trained with a digest which its site has withdrawn. Returns their titles.

    What a person has cleared (`clear`) stays cleared, until the site withdraws another digest of it.
    """
    known = withdrawn.known(root)
    if not known or not there(root):
        return []
    client, marked = client_of(root), []
    for version in of_study(root):
        if found := _new(version.tags, known):
            _mark(client, version, found)
            marked.append(f"{version.name} version {version.version}")
    return sorted(marked)


def said(title: str, tags: Mapping[str, str]) -> str:
    """Return what is to be said of a stale version, "" of one that is not."""
    if TAG not in tags:
        return ""
    sites = ", ".join(sorted(name.removeprefix(OF_SITE) for name in tags if name.startswith(OF_SITE)))
    return f"{title} is stale, {tags[TAG]} at {sites}: it was trained with images of a patient who has withdrawn since"


def proposal(model: str) -> str:
    """Return the one sentence on what to do."""
    return (
        f"train {model} again without them (`fedsynth run`, once the site's data have changed), and promote what comes"
        f" of it: `fedsynth promote {model}`"
    )


def clear(root: Path, model: str, number: int, who: str, why: str) -> None:
    """Take the mark off a version, by a person with a reason, which stay in its tags and history.

    Raises RegistryError where it is not stale.
    """
    mark(root)
    version, by = version_of(root, model, number), history.words(who, why)
    if TAG not in version.tags:
        raise RegistryError(f"{version.name} version {number} is not stale")
    client, sites = client_of(root), [name for name in version.tags if name.startswith(OF_SITE)]
    digests = {version.tags[name].split()[-1] for name in sites} | _cleared(version.tags)
    tags = by | {"at": history.now(), "digests": ",".join(sorted(digests))}
    history.replace_tags(client, version, CLEARED, tags)  # before the mark goes: an interruption leaves it stale
    history.add(client, version, f"- {tags['at']} No longer stale, by {by['by']}: {by['why']}")
    for name in [*sites, TAG]:
        client.delete_model_version_tag(version.name, version.version, name)


def lines(root: Path) -> list[str]:
    """Return a line for each model whose version in use is stale, with what to do."""
    if not there(root):
        return []
    client, found = client_of(root), []
    for model in models_of_study(root):
        for alias, number in sorted(model.aliases.items()):
            title = f"{model.name} version {number}, the {alias},"
            if text := said(title, client.get_model_version(model.name, str(number)).tags):
                found.append(f"{text}; {proposal(model_of(model.name))}")
    return found


def _new(tags: Mapping[str, str], known: Mapping[str, list[str]]) -> dict[str, str]:
    """Return site -> withdrawn digest that a version was trained with, where that is not marked yet, nor cleared."""
    found = {}
    for site, digests in known.items():
        own = tags.get(key(f"data.digest.{names.key(site)}"), "")
        trained = {own, *_begun(tags, names.key(site))} - {"", *_cleared(tags)}
        if (gone := sorted(trained & set(digests))) and f"{OF_SITE}{names.key(site)}" not in tags:
            found[site] = gone[0]
    return found


def _begun(tags: Mapping[str, str], site: str) -> set[str]:
    """Return the digests of a site's sets that a version has by what it began with."""
    found = [value for name, value in tags.items() if name.startswith(f"{began.DIGESTS}{site}.")]
    return {digest for value in found for digest in value.split(",")}


def _mark(client: MlflowClient, version: ModelVersion, found: Mapping[str, str]) -> None:
    at = history.now()
    client.set_model_version_tag(version.name, version.version, TAG, WITHDRAWN)
    for site, digest in found.items():
        client.set_model_version_tag(version.name, version.version, f"{OF_SITE}{names.key(site)}", f"{at} {digest}")
    history.add(client, version, f"- {at} Stale: {WITHDRAWN} at {', '.join(found)}")


def _cleared(tags: Mapping[str, str]) -> set[str]:
    return {digest for digest in tags.get(f"{CLEARED}.digests", "").split(",") if digest}
