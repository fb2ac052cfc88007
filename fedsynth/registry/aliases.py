"""Promotion and rollback by MLflow aliases, with a history in each version's tags and description."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedsynth.registry import by_hand, history, loading, promotion
from fedsynth.registry.by_hand import CHAMPION, PREVIOUS
from fedsynth.registry.versions import RegistryError, alias_of, client_of, version_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def promote(
    root: Path, model: str, number: int, who: str, why: str, flow_run_id: str, compared: str = "", although: str = ""
) -> str | None:
    """Make a version the champion; the former champion becomes `previous`.

    `who`, `why`, the time, the flow run, the gates' verdict, `compared` (how it compares with the champion) and
    `although` (why it is promoted nevertheless) are written to the version. The gates are not checked here; call
    check_gates in fedsynth/registry/promotion.py first. Hashes are, and whether it is stale. Returns the version that
    was replaced, None if there was none. Raises RegistryError if the version already is the champion, Swapped where its
    artifact is not what was registered, and Refused where it is stale or has no hashes and there is no `although`. A
    champion that a person has set by hand may be promoted: its history then says who answers for it.
    """
    tags = history.words(who, why) | _although(although)
    version, former = version_of(root, model, number), alias_of(root, model, CHAMPION)
    if former == str(number):  # promoted, or made that by hand: then what it replaced is what was promoted before
        former = by_hand.recorded(root, version.name, CHAMPION)
    if former == str(number):
        raise RegistryError(f"{version.name} version {number} is the {CHAMPION} already")
    tags |= _overruled(root, version, although)
    client, replaced = client_of(root), f"version {former}" if former else "nothing"
    if former:  # before the champion changes, so that a second call works if this one is interrupted
        by_hand.point(client, version.name, PREVIOUS, former)
    by_hand.point(client, version.name, CHAMPION, str(number))
    tags |= {"flow_run_id": flow_run_id, "replaced": replaced} | ({"compared": compared} if compared else {})
    _write(client, version, "promotion", tags, f"Champion in place of {replaced}")
    return former


def rollback(
    root: Path, model: str, who: str, why: str, flow_run_id: str, although: str = ""
) -> tuple[str, str | None]:
    """Make `previous` the champion again. Returns the versions (left, in use now).

    The first champion replaced nothing: the alias is withdrawn, and no version is in use (None). A champion that was
    set by hand is left for the one that was promoted. The alias `previous` is deleted: otherwise it would name the
    version just left, and a second rollback would restore it. Hashes are checked, and whether it is stale, as in
    `promote`. Raises RegistryError if there is no previous version.
    """
    tags = history.words(who, why) | {"flow_run_id": flow_run_id} | _although(although)
    newest, client = version_of(root, model), client_of(root)
    left, promoted = alias_of(root, model, CHAMPION), by_hand.recorded(root, newest.name, CHAMPION)
    back = alias_of(root, model, PREVIOUS) if promoted in (None, left) else promoted
    if left and back in (None, left) and _first(version_of(root, model, int(left))):
        by_hand.point(client, newest.name, CHAMPION, None)
        tags |= {"to": "nothing"}
        _write(client, version_of(root, model, int(left)), "rollback", tags, "Withdrawn, nothing is in its place")
        return left, None
    if left is None or back is None or left == back:
        now = f"version {left} is the {CHAMPION}" if left else f"no version is the {CHAMPION}"
        raise RegistryError(
            f"{newest.name} has no version to go back to: {now}; to take one into use: `fedsynth promote {model}"
            f" --version N`, the newest is {newest.version}"
        )
    overruled = _overruled(root, version_of(root, model, int(back)), although)
    by_hand.point(client, newest.name, CHAMPION, back)
    if promoted in (None, left):
        by_hand.point(client, newest.name, PREVIOUS, None)
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


def _first(version: ModelVersion) -> bool:
    """Whether a champion is the first: it replaced nothing, or was made that by hand without a history."""
    return version.tags.get("promotion.replaced", "nothing") == "nothing"


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
