"""The classes that a block may name, which are in the folder of its kind, and the nearest to a misspelt name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from typing import Any, NamedTuple

from fedsynth.params.near import nearest


class Kind(NamedTuple):
    """A folder of fedsynth/, the title of its classes, and attributes that only classes of this kind have."""

    folder: str
    title: str
    has: tuple[str, ...]


KINDS = {
    "source": Kind("sources", "source", ("sites", "records", "fingerprint")),
    "operator": Kind("operators", "operator", ("degrade", "estimate", "consistent")),
    "family": Kind("families", "family", ("players", "loss", "sample")),
    "algorithm": Kind("algorithms", "algorithm", ("job", "prepare", "check")),
    "privacy": Kind("privacy", "mechanism of privacy", ("protect", "spent", "load_state")),
    "encryption": Kind("privacy", "encryption", ("encrypt", "add", "shaped")),
    "compression": Kind("compression", "coding", ("form", "encode", "decode")),
    "robust": Kind("robust", "robust rule", ("combine", "least", "weighs", "by_entry")),
    "exporter": Kind("exporters", "exporter", ("write", "layout")),
    "use": Kind("uses", "use", ("network", "judge", "summarise")),
    "features": Kind("features", "extractor of features", ("open", "features")),
    "measure": Kind("measures", "measure", ("about", "at_site", "combine")),
}


def find(kind: str, class_path: str) -> tuple[type | None, str]:
    """Return the class and ""; or None and the reason, with the known classes and the nearest."""
    module, _, name = class_path.rpartition(".")
    cls: Any = None
    try:
        cls = getattr(importlib.import_module(module), name, None) if module.startswith("fedsynth.") else None
    except ImportError as error:
        if not module.startswith(error.name or "?"):  # a package that the class needs is missing
            return None, f"cannot be loaded here: {error}"
    if _is_of(kind, cls):
        return cls, ""
    folder, title, _ = KINDS[kind]
    known = [path.removeprefix(f"fedsynth.{folder}.") for path in classes(kind)]
    if not module.startswith("fedsynth."):
        wrong = "is not under 'fedsynth.', and only this package's classes may be named"
    else:
        wrong = f"{'is no' if cls else 'there is no such'} {title}"
    what = f"{wrong}; known under fedsynth.{folder} are {', '.join(known)}"
    return None, what + _near(class_path, classes(kind))


def _near(class_path: str, known: list[str]) -> str:
    """Return a hint with the nearest class by file and class name, otherwise by class name."""
    for parts in (2, 1):
        ends = {".".join(path.split(".")[-parts:]): path for path in known}
        if found := nearest(".".join(class_path.split(".")[-parts:]), ends):
            return f"; did you mean {ends[found]!r}?"
    return ""


def _is_of(kind: str, cls: Any) -> bool:
    """Return whether a class is of this kind and not abstract."""
    if not inspect.isclass(cls) or inspect.isabstract(cls):
        return False
    folder, _, file = cls.__module__.removeprefix("fedsynth.").partition(".")
    return folder == KINDS[kind].folder and file[:1] not in ("", "_") and all(hasattr(cls, a) for a in KINDS[kind].has)


@cache
def classes(kind: str) -> list[str]:
    """Return the class paths of a kind. Used for messages only, because it imports all files of the folder."""
    folder, found = importlib.import_module(f"fedsynth.{KINDS[kind].folder}"), []
    for file in pkgutil.iter_modules(folder.__path__, f"{folder.__name__}."):
        try:
            members = vars(importlib.import_module(file.name))
        except ImportError:  # it needs a package that is not installed
            continue
        own = {name: cls for name, cls in members.items() if getattr(cls, "__module__", "") == file.name}
        found += [f"{file.name}.{name}" for name, cls in own.items() if _is_of(kind, cls)]
    return sorted(found)
