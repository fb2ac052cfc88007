"""Promotion and rollback by aliases, with a history kept in each version's tags and description."""

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
    """Make a version the champion; the champion until now becomes `previous`. Returns the version that was replaced, if
    there was one.

    Who, when, why, the flow run, what the gates said, how it compared and why it was promoted nevertheless are written
    to the version. Asks no gate: fedsynth/registry/promotion.py does, before. Raises RegistryError where it is the
    champion already.
    """
    tags = _words(who, why) | ({"although": _line("although", although, 1000)} if although else {})
    version, former = version_of(root, model, number), alias_of(root, model, CHAMPION)
    if former == str(number):
        raise RegistryError(f"{version.name} version {number} is the {CHAMPION} already")
    client, replaced = client_of(root), f"version {former}" if former else "nothing"
    if former:  # before the champion moves: ended between the two, a second call finds all that it needs
        client.set_registered_model_alias(version.name, PREVIOUS, former)
    client.set_registered_model_alias(version.name, CHAMPION, str(number))
    tags |= {"flow_run_id": flow_run_id, "replaced": replaced} | ({"compared": compared} if compared else {})
    _write(client, version, "promotion", tags, f"Champion in place of {replaced}")
    return former


def rollback(root: Path, model: str, who: str, why: str, flow_run_id: str) -> tuple[str, str]:
    """Make `previous` the champion again. Returns the versions (left, in use now).

    `previous` is taken away: it would name the version that was just left, and a second call would bring that back.
    Raises RegistryError where there is no previous version.
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
    """What was done to a version: the last time in its tags, every time as a line at the end of its description."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    tags |= {"at": at, "gates": promotion.said(version.tags)} | (
        {"warnings": w} if (w := "; ".join(promotion.warnings(version.tags))) else {}
    )
    for name in [n for n in version.tags if n.startswith(f"{event}.") and n.removeprefix(f"{event}.") not in tags]:
        client.delete_model_version_tag(version.name, version.version, name)  # of the time before
    for name, value in tags.items():
        client.set_model_version_tag(version.name, version.version, f"{event}.{name}", value)
    more = "".join(f"; {name}: {tags[name]}" for name in ("warnings", "compared", "although") if name in tags)
    line = (
        f"- {at} {what}, by {tags['by']}: {tags['why']} (flow run: {tags['flow_run_id']}; gates: {tags['gates']}{more})"
    )
    client.update_model_version(version.name, version.version, _with_line(version.description or "", line))


def _with_line(description: str, line: str) -> str:
    """A description with one more line of history, as long as MLflow's database takes: the oldest lines go first, then
    the card's end.
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
    """A person's words on one line. Raises RegistryError where they are missing or too long to be kept."""
    line = " ".join(text.split())
    if not 0 < len(line) <= longest:
        raise RegistryError(f"`{name}` has {len(line)} characters; say in 1 to {longest} who decides and why")
    return line
