"""What was done to a version: who decided it and why, as tags and as lines at the end of its description."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fedsynth.registry.versions import HISTORY, RegistryError
from fedsynth.report.card import LONGEST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def add(client: MlflowClient, version: ModelVersion, line: str) -> None:
    """Add a line to the history in a version's description."""
    client.update_model_version(version.name, version.version, with_line(version.description or "", line))


def replace_tags(client: MlflowClient, version: ModelVersion, event: str, tags: dict[str, str]) -> None:
    """Write `<event>.<name>` tags in the place of those of an earlier event of the kind."""
    for name in [n for n in version.tags if n.startswith(f"{event}.") and n.removeprefix(f"{event}.") not in tags]:
        client.delete_model_version_tag(version.name, version.version, name)
    for name, value in tags.items():
        client.set_model_version_tag(version.name, version.version, f"{event}.{name}", value)


def overruled(
    client: MlflowClient, version: ModelVersion, event: str, what: str, who: str, although: str, objections: list[str]
) -> None:
    """Record that a version was used although something speaks against it.

    The last time of an `event` (served, drawn) is in its tags, all of them are lines at the end of its description.
    """
    by, at = words(who, although), now()
    tags = {"although": by["why"], "by": by["by"], "at": at, "overruled": "; ".join(objections)[:5000]}
    replace_tags(client, version, event, tags)
    add(client, version, f"- {at} {what}, by {by['by']}, although: {by['why']}")


def with_line(description: str, line: str) -> str:
    """Add a line of history to a description within the length that MLflow's database allows.

    The oldest lines are dropped first, then the end of the card.
    """
    about, _, history = description.partition(HISTORY)
    lines = [*history.splitlines(), line]
    while len(lines) > 1 and len("\n".join(lines)) > LONGEST // 2:
        lines.pop(0)
    end = HISTORY + "\n".join(lines)
    return about[: LONGEST - len(end)] + end


def words(who: str, why: str) -> dict[str, str]:
    return {"by": one_line("by", who, 100), "why": one_line("why", why, 1000)}


def one_line(name: str, text: str, longest: int = 1000) -> str:
    """Return a person's text as one line. Raises RegistryError if it is empty or longer than `longest` characters."""
    line = " ".join(text.split())
    if not 0 < len(line) <= longest:
        raise RegistryError(f"`{name}` has {len(line)} characters; say in 1 to {longest} who decides and why")
    return line
