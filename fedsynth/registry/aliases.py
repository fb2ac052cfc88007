"""Promotion and rollback by MLflow aliases, with a history in each version's tags and description."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fedsynth.registry import promotion
from fedsynth.registry.versions import HISTORY, RegistryError, alias_of, client_of, version_of
from fedsynth.report.card import LONGEST

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
    check_gates in fedsynth/registry/promotion.py first. Returns the version that was replaced, None if there was none.
    Raises RegistryError if the version already is the champion.
    """
    tags = _words(who, why) | ({"although": _line("although", although, 1000)} if although else {})
    version, former = version_of(root, model, number), alias_of(root, model, CHAMPION)
    if former == str(number):
        raise RegistryError(f"{version.name} version {number} is the {CHAMPION} already")
    client, replaced = client_of(root), f"version {former}" if former else "nothing"
    if former:  # before the champion changes, so that a second call works if this one is interrupted
        client.set_registered_model_alias(version.name, PREVIOUS, former)
    client.set_registered_model_alias(version.name, CHAMPION, str(number))
    tags |= {"flow_run_id": flow_run_id, "replaced": replaced} | ({"compared": compared} if compared else {})
    _write(client, version, "promotion", tags, f"Champion in place of {replaced}")
    return former


def rollback(root: Path, model: str, who: str, why: str, flow_run_id: str) -> tuple[str, str]:
    """Make `previous` the champion again. Returns the versions (left, in use now).

    The alias `previous` is deleted: otherwise it would name the version just left, and a second rollback would restore
    it. Raises RegistryError if there is no previous version.
    """
    tags = _words(who, why) | {"flow_run_id": flow_run_id}
    newest = version_of(root, model)
    left, back = alias_of(root, model, CHAMPION), alias_of(root, model, PREVIOUS)
    if left is None or back is None or left == back:
        now = f"version {left} is the {CHAMPION}" if left else f"no version is the {CHAMPION}"
        raise RegistryError(
            f"{newest.name} has no version to go back to: {now}; promote one of 1 to {newest.version} by its number"
        )
    client = client_of(root)
    client.set_registered_model_alias(newest.name, CHAMPION, back)
    client.delete_registered_model_alias(newest.name, PREVIOUS)
    _write(
        client,
        version_of(root, model, int(left)),
        "rollback",
        tags | {"to": f"version {back}"},
        f"Left for version {back}",
    )
    tags |= {"replaced": f"version {left}"}
    _write(client, version_of(root, model, int(back)), "promotion", tags, f"Champion again, in place of version {left}")
    return left, back


def _write(client: MlflowClient, version: ModelVersion, event: str, tags: dict[str, str], what: str) -> None:
    """Record an event of a version: the latest one in its tags, all of them as lines at the end of its description."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    tags |= {"at": at, "gates": promotion.said(version.tags)} | (
        {"warnings": w} if (w := "; ".join(promotion.warnings(version.tags))) else {}
    )
    for name in [n for n in version.tags if n.startswith(f"{event}.") and n.removeprefix(f"{event}.") not in tags]:
        client.delete_model_version_tag(version.name, version.version, name)  # of an earlier event
    for name, value in tags.items():
        client.set_model_version_tag(version.name, version.version, f"{event}.{name}", value)
    more = "".join(f"; {name}: {tags[name]}" for name in ("warnings", "compared", "although") if name in tags)
    line = (
        f"- {at} {what}, by {tags['by']}: {tags['why']} (flow run: {tags['flow_run_id']}; gates: {tags['gates']}{more})"
    )
    client.update_model_version(version.name, version.version, _with_line(version.description or "", line))


def _with_line(description: str, line: str) -> str:
    """Add a line of history to a description within the length that MLflow's database allows.

    The oldest lines are dropped first, then the end of the card.
    """
    about, _, history = description.partition(HISTORY)
    lines = [*history.splitlines(), line]
    while len(lines) > 1 and len("\n".join(lines)) > LONGEST // 2:
        lines.pop(0)
    end = HISTORY + "\n".join(lines)
    return about[: LONGEST - len(end)] + end


def _words(who: str, why: str) -> dict[str, str]:
    return {"by": _line("by", who, 100), "why": _line("why", why, 1000)}


def _line(name: str, text: str, longest: int) -> str:
    """Return a person's text as one line. Raises RegistryError if it is empty or longer than `longest` characters."""
    line = " ".join(text.split())
    if not 0 < len(line) <= longest:
        raise RegistryError(f"`{name}` has {len(line)} characters; say in 1 to {longest} who decides and why")
    return line
