"""The formats in which a set is written: one for each file of fedsynth/exporters, by its name."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fedsynth.errors import UserError
from fedsynth.params.block import Block
from fedsynth.params.near import near

if TYPE_CHECKING:
    from fedsynth.exporters import Exporter

ROOM = "fedsynth.exporters"


class FormatError(UserError):
    """There is no such format; the message lists those there are."""


def names() -> list[str]:
    """Return the names, without importing an exporter."""
    spec = find_spec(ROOM)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return sorted(found.name for found in pkgutil.iter_modules(folders) if not found.name.startswith("_"))


def block_of(name: str) -> Block:
    """Return the call that builds the exporter of a format. Raises FormatError."""
    if name.lower() not in names():
        raise FormatError(f"there is no format {name!r}; there are {', '.join(names())}{near(name, names())}")
    from fedsynth.exporters import Exporter

    module = importlib.import_module(f"{ROOM}.{name.lower()}")
    found = [of for of in vars(module).values() if isinstance(of, type) and issubclass(of, Exporter)]
    own = next(of for of in found if of.__module__ == module.__name__)
    return Block(class_path=f"{module.__name__}.{own.__name__}")


def exporter(name: str) -> Exporter:
    """Return the exporter of a format. Raises FormatError, and ParamsError where a package lacks."""
    return block_of(name).build()
