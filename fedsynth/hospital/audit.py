"""The record of a hospital as a table, and as a page for the data-protection officer."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fedsynth.hospital.record import Entry, Record

COLUMNS = ("when (UTC)", "what", "study", "job", "model", "by", "left", "bytes", "epsilon", "digest", "rule")


def entries(folder: Path, days: int | None = None) -> list[Entry]:
    """Return the entries of the record in a site's state folder. Raises ChainError for a changed file."""
    since = "" if days is None else (datetime.now(UTC) - timedelta(days=days)).isoformat()
    return Record(folder).recent(since)


def row(entry: Entry) -> tuple[str, ...]:
    """Return an entry as the cells of COLUMNS."""
    return (
        entry["at"][:19].replace("T", " "),
        entry["what"],
        entry.get("study", ""),
        entry["job"],
        entry.get("name", ""),
        entry.get("submitter", "") or "–",
        left(entry),
        _bytes(entry.get("bytes", 0) + entry.get("answer_bytes", 0)) if entry["what"] == "sent" else "",
        f"{entry['epsilon']:.2f}" if entry.get("epsilon") is not None else "",
        (entry.get("sha256") or entry.get("answer_sha256") or "")[:12],
        entry.get("rule", ""),
    )


def left(entry: Entry) -> str:
    """Return in words what has left, or what was withdrawn."""
    if entry["what"] == "withdrawn":
        return f"nothing; taken out: {entry['patients']} patients, {entry['images']} images"
    if entry["what"] != "sent":
        return "nothing"
    arrays = f"{entry['arrays']} arrays" if entry.get("arrays") else ""
    arrays += f" of {entry['values']} numbers" if arrays and entry.get("values") else ""
    turn = f"round {entry['round'] + 1}: " if entry.get("round") is not None else ""
    return turn + " and ".join(part for part in (arrays, ", ".join(entry.get("keys", []))) if part)


def totals(of: list[Entry]) -> dict[str, Any]:
    """Return the numbers above the table: jobs by kind, refusals by rule, bytes that left."""
    asked = Counter(entry["job"] for entry in of if entry["what"] == "asked")
    refused = Counter(entry.get("rule", "") for entry in of if entry["what"] == "refused")
    size = sum(entry.get("bytes", 0) + entry.get("answer_bytes", 0) for entry in of if entry["what"] == "sent")
    spent = [entry["epsilon"] for entry in of if entry.get("epsilon") is not None]
    return {"asked": dict(asked), "refused": dict(refused), "bytes": _bytes(size), "epsilon": max(spent, default=None),
            "first": of[0]["at"][:10] if of else "", "last": of[-1]["at"][:10] if of else ""}  # fmt: skip


def show(site: str, of: list[Entry]) -> None:
    """Print the record as a table, the oldest entry first."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for entry in of:
        table.add_row(*row(entry))
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(summary(site, of))


def summary(site: str, of: list[Entry]) -> str:
    """Return the record in one paragraph."""
    if not of:
        return f"{site}: nothing has been asked of this hospital yet"
    found = totals(of)
    asked = ", ".join(f"{n} {job}" for job, n in found["asked"].items()) or "none"
    refused = ", ".join(f"{n} by {rule}" for rule, n in found["refused"].items()) or "none"
    return (
        f"{site}, {found['first']} to {found['last']}: jobs {asked}; refused: {refused}; {found['bytes']} left; the"
        f" record is whole ({len(of)} entries)"
    )


def page(site: str, of: list[Entry]) -> str:
    """Return the record as a self-contained HTML page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedsynth.hospital", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("audit.html.j2")
    said, made = summary(site, of), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return template.render(site=site, columns=COLUMNS, rows=[(e["what"], row(e)) for e in of], said=said,
                           found=totals(of), made=made)  # fmt: skip


def _bytes(size: int) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "B" else f"{size} B"
        size /= 1000  # type: ignore[assignment]
    return f"{size:.1f} GB"
