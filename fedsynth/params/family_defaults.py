"""What a family declares as the defaults of its training (`Family.defaults`), read from its file.

The file is parsed and not imported, because a family's imports take seconds and params.yaml is read by every command.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]


@cache
def training_defaults(class_path: str) -> dict[str, Any]:
    """Returns the literal `defaults` of a class of this package, or of the first of its bases that has one.

    {} for a class that does not exist; what is wrong with it is found where it is built.
    """
    module, _, name = class_path.rpartition(".")
    path = PACKAGE.joinpath(*module.split(".")[1:])
    file = next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)
    if file is None or not module.startswith("fedsynth."):
        return {}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    of = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if of is None:
        return {}
    for node in of.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "defaults" and node.value:
            return dict(ast.literal_eval(node.value))
    homes = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    bases = [base.id for base in of.bases if isinstance(base, ast.Name)]
    found = (training_defaults(homes.get(base, f"{module}.{base}")) for base in bases)
    return next(filter(None, found), {})
