"""Promotion and rollback by MLflow aliases, with a history in each version's tags and description."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedsynth.registry import history, loading, promotion
from fedsynth.registry.versions import RegistryError, alias_of, client_of, version_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, PREVIOUS = "champion", "previous"  # aliases: the version in use, and the one that it replaced


def promote(
    root: Path, model: str, number: int, who: str, why: str, flow_run_id: str, compared: str = "", although: str = ""
) -> str | None:
    """Make a version the champion; the former champion becomes `previous`.

    `who`, `why`, the time, the flow run, the gates' verdict, `compared` (how it compares with the champion) and
    `although` (why it is promoted nevertheless) are written to the version. The gates are not checked here; call
    check_gates in fedsynth/registry/promotion.py first. Hashes are, and whether it is stale. Returns the version that
    was replaced, None if there was none. Raises RegistryError if the version already is the champion, Swapped where its
    artifact is not what was registered, and Refused where it is stale or has no hashes and there is no `although`.
    """
    tags = history.words(who, why) | _although(although)
    version, former = version_of(root, model, number), alias_of(root, model, CHAMPION)
    if former == str(number):
        raise RegistryError(f"{version.name} version {number} is the {CHAMPION} already")
    tags |= _overruled(root, version, although)
    client, replaced = client_of(root), f"version {former}" if former else "nothing"
    if former:  # before the champion changes, so that a second call works if this one is interrupted
        client.set_registered_model_alias(version.name, PREVIOUS, former)
    client.set_registered_model_alias(version.name, CHAMPION, str(number))
    tags |= {"flow_run_id": flow_run_id, "replaced": replaced} | ({"compared": compared} if compared else {})
    _write(client, version, "promotion", tags, f"Champion in place of {replaced}")
    return former


def rollback(root: Path, model: str, who: str, why: str, flow_run_id: str, although: str = "") -> tuple[str, str]:
    """Make `previous` the champion again. Returns the versions (left, in use now).

    The alias `previous` is deleted: otherwise it would name the version just left, and a second rollback would restore
    it. Hashes are checked, and whether it is stale, as in `promote`. Raises RegistryError if there is no previous
    version.
    """
    tags = history.words(who, why) | {"flow_run_id": flow_run_id} | _although(although)
    newest = version_of(root, model)
    left, back = alias_of(root, model, CHAMPION), alias_of(root, model, PREVIOUS)
    if left is None or back is None or left == back:
        now = f"version {left} is the {CHAMPION}" if left else f"no version is the {CHAMPION}"
        raise RegistryError(
            f"{newest.name} has no version to go back to: {now}; promote one of 1 to {newest.version} by its number"
        )
    client, overruled = client_of(root), _overruled(root, version_of(root, model, int(back)), although)
    client.set_registered_model_alias(newest.name, CHAMPION, back)
    client.delete_registered_model_alias(newest.name, PREVIOUS)
    _write(
        client,
        version_of(root, model, int(left)),
        "rollback",
        tags | {"to": f"version {back}"},
        f"Left for version {back}",
    )
    tags |= {"replaced": f"version {left}"} | overruled
    _write(client, version_of(root, model, int(back)), "promotion", tags, f"Champion again, in place of version {left}")
    return left, back


def _write(client: MlflowClient, version: ModelVersion, event: str, tags: dict[str, str], what: str) -> None:
    """Record an event of a version: the latest one in its tags, all of them as lines at the end of its description."""
    version = client.get_model_version(version.name, version.version)  # as it is now, with its mark and history
    at = history.now()
    tags |= {"at": at, "gates": promotion.said(version.tags)} | (
        {"warnings": w} if (w := "; ".join(promotion.warnings(version.tags))) else {}
    )
    history.replace_tags(client, version, event, tags)
    shown = ("warnings", "compared", "overruled", "although")
    more = "".join(f"; {name}: {tags[name]}" for name in shown if name in tags)
    line = (
        f"- {at} {what}, by {tags['by']}: {tags['why']} (flow run: {tags['flow_run_id']}; gates: {tags['gates']}{more})"
    )
    history.add(client, version, line)


def _although(text: str) -> dict[str, str]:
    return {"although": history.one_line("although", text)} if text else {}


def _overruled(root: Path, version: ModelVersion, although: str) -> dict[str, str]:
    """Return what `although` overrules, as a tag. Raises Swapped and Refused, see loading.admitted."""
    with loading.admitted(root, version, although) as found:
        return {"overruled": "; ".join(found.objections)[:1000]} if found.objections else {}
