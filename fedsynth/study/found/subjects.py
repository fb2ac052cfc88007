"""Subjects by the names of files and folders: "patient012_slice3.png" is of patient012."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from fedsynth.study.found.layout import stem

WORDS = "patients?|pat|subject|subj|sub|case|person|pid|pt|animal|mouse|donor|volunteer|proband"
PERSON = re.compile(rf"(?<![a-z])((?:{WORDS})[ _-]?(?=[a-z]*\d)[a-z]*\d+|p[_-]?\d{{2,}})(?![a-z0-9])", re.IGNORECASE)
PART = re.compile(r"(.+?)[ _-]+(?:slice|slc|frame|view|img|image|cut|scan|z)[ _-]?\d+$", re.IGNORECASE)
SIDE = re.compile(r"(.+?)(?:[ _-](?:left|right|od|os|l|r)|(?<=\d)(?:l|r))$", re.IGNORECASE)
MOST = 0.95  # share of the names that must follow a rule


def by_name(files: Sequence[str]) -> tuple[list[str], str]:
    """The subject of each file, and in words by which rule; where names do not tell, each file is one."""
    for rule, said in RULES:
        found = [rule(file) for file in files]
        known = [subject for subject in found if subject]
        if len(known) >= MOST * len(files) and 1 < len(set(known)) < len(known):
            example = next(f for f, s in zip(files, found, strict=True) if s and Counter(known)[s] > 1)
            subject = rule(example)
            told = f"subjects by {said}: {example} is of {subject!r}, and {len(set(known))} are told apart"
            return [s or own(f) for s, f in zip(found, files, strict=True)], told
    return [own(file) for file in files], ""


def own(file: str) -> str:
    """A name for the subject of a file of which nothing else is known: its own, with its folders."""
    folder = file.rpartition("/")[0]
    return f"{folder}/{stem(file)}".lstrip("/")


def person(text: str) -> str:
    """A patient's name in a text, in one writing; "" where there is none."""
    found = PERSON.search(text)
    return re.sub(r"[ _-]", "", found[1]).casefold() if found else ""


def _person(file: str) -> str:
    parts = [*PurePosixPath(file).parts[:-1], stem(file)]
    return next((found for part in parts if (found := person(part))), "")


def _part(file: str) -> str:
    found = PART.fullmatch(own(file))
    return found[1] if found else ""


def _side(file: str) -> str:
    found = SIDE.fullmatch(stem(file))
    return found[1] if found else ""


RULES: list[tuple[Callable[[str], str], str]] = [
    (_person, "the patient in names of files or folders"),
    (_part, "what stands before the number of a slice or picture"),
    (_side, "what stands before left and right"),
]
