"""Reading of params.yaml, with an error for repeated keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fedsynth.errors import NO_STUDY
from fedsynth.params.errors import ParamsError


class OnceLoader(yaml.SafeLoader):
    """A YAML loader that refuses repeated keys; yaml.SafeLoader would silently use the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            name, line = key.value, key.start_mark.line + 1
            if name in lines and name != "<<":
                raise ParamsError(f"{name!r} is there twice, in lines {lines[name]} and {line}: keep one")
            lines[name] = line
        return super().construct_mapping(node, deep)


def raw(path: Path) -> Any:
    """Return the content of a params file. Raises ParamsError if it cannot be read."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), OnceLoader)
    except FileNotFoundError as error:
        raise ParamsError(f"{path} is not there; {NO_STUDY}") from error
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path} is not UTF-8 (at byte {error.start}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from error
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from error
