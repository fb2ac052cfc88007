"""Every class of a kind, found by listing its folder: a new file is under test without a line here; what files share
begins with _.
"""

import importlib
import inspect
import pkgutil
from types import ModuleType


def classes(kind: ModuleType, base: type) -> list[type]:
    found = []
    for module in pkgutil.iter_modules(kind.__path__, kind.__name__ + "."):
        if module.name.rpartition(".")[2].startswith("_"):
            continue
        members = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        own = [c for _, c in members if issubclass(c, base) and c is not base and c.__module__ == module.name]
        assert own, f"{module.name} holds no {base.__name__}"
        found += own
    return found
