"""`fedsynth upgrade`: a study that an earlier version made gets the files of the installed one."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from fedsynth import __version__
from fedsynth.params import keep_runs
from fedsynth.study import layout
from fedsynth.study.layout import Made, StudyError

KEPT = ".before"  # ending of a file that was edited here and was replaced


@dataclass(frozen=True)
class Change:
    """A file that the installed version has otherwise.

    `edited`: whether it was changed in the study; `lines`: the difference as `diff -u` shows it.
    """

    place: str
    edited: bool
    lines: list[str]

    @property
    def words(self) -> str:
        added = sum(line.startswith("+") and not line.startswith("+++") for line in self.lines)
        gone = sum(line.startswith("-") and not line.startswith("---") for line in self.lines)
        return f"{self.place}: +{added} −{gone} lines{', edited here' if self.edited else ''}"


def changes(root: Path, before: Made) -> list[Change]:
    """Return the files that an upgrade would replace. Raises StudyError where `fedsynth init` did not make this folder.

    A file that was edited in the study and is the same in both versions stays as it is.
    """
    found = []
    for place in layout.FILES:
        new, path = layout.template(place, before.name), root / place
        now = path.read_text(encoding="utf-8") if path.is_file() else ""
        if layout.digest(now) == layout.digest(new) or before.files.get(place) == layout.digest(new):
            continue
        edited = bool(now) and before.files.get(place) != layout.digest(now)
        lines = difflib.unified_diff(now.splitlines(), new.splitlines(), f"{place} here", f"{place} new", lineterm="")
        found.append(Change(place, edited, list(lines)))
    return found


def moved(root: Path) -> list[str]:
    """Return a line for each setting of an earlier version that is a key of params.yaml now."""
    said = os.environ.get("FEDSYNTH_KEEP_RUNS")
    if not said or said == str(keep_runs(root)):
        return []
    return [
        f"FEDSYNTH_KEEP_RUNS is set and is a site's own: for the centre, write `keep_runs: {said}` into params.yaml, or"
        f" {keep_runs(root)} runs are kept"
    ]


def upgrade(root: Path, name: str, found: list[Change], take: bool) -> None:
    """Replace these files of the study `name`.

    `take`: also those that were edited here, which are kept beside with the ending `.before`.
    Raises StudyError naming the edited ones, before anything is written.
    """
    edited = [change.place for change in found if change.edited]
    if edited and not take:
        raise StudyError(
            f"nothing was changed: {', '.join(edited)} {'was' if len(edited) == 1 else 'were'} edited here and"
            f" {'is' if len(edited) == 1 else 'are'} different in fedsynth {__version__}. Look with `fedsynth upgrade"
            f" --dry-run`; take the new ones with --take, yours stay beside them as *{KEPT}"
        )
    for change in found:
        path = root / change.place
        if change.edited:
            path.replace(path.with_name(path.name + KEPT))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(layout.template(change.place, name), encoding="utf-8", newline="\n")
    layout.remember(root, name)
