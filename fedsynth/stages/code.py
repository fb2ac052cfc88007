"""Digests of the code that a stage depends on: its entry points and all modules that they import, transitively.

A digest covers the code that Python runs, without comments, docstrings and layout, so that editing these makes no stage
stale. Modules are parsed, not imported; this works for an installed package and for a checkout.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("fedsynth", "nvflare_jobs")

# Modules that transport, format or stop things and do not change what a stage computes; * matches any suffix. The
# values that `params` reads are compared separately.
PLUMBING = (
    *(f"fedsynth.{name}" for name in ("errors", "processes", "settings", "checks*")),
    *(f"fedsynth.params{name}" for name in ("", ".block", ".model", ".reading", ".study")),
    *(f"fedsynth.hospital.{name}" for name in ("failures", "kit", "outgoing.door", "policy*", "record", "chain")),
    # whom they leave out is in data/source.json
    *(f"fedsynth.hospital.{name}" for name in ("pseudonyms", "trained", "withdrawals")),
    *(f"fedsynth.validation.{name}" for name in ("hints", "look*", "verdict_page")),
    *("fedsynth.data.outputs", "fedsynth.networks.monai_imports", "fedsynth.training.checkpoint"),
    *(f"fedsynth.stages.{name}" for name in ("code", "estimate", "inputs", "plan*")),
    *(f"nvflare_jobs.centre.{name}" for name in ("job_folder", "jobs", "program", "show")),
    *(f"nvflare_jobs.server.{name}" for name in ("round_log", "run", "saved", "traffic")),
    *("nvflare_jobs.federation*", "nvflare_jobs.keys", "nvflare_jobs.site.installed", "nvflare_jobs.site.submitter"),
)
# Modules that count only if the stage starts in them or params.yaml names a class in them (the key), and the further
# modules that then count, too; for other stages they change nothing.
BROUGHT = {
    "fedsynth.compression*": ("fedsynth.training.coding",),
    "fedsynth.algorithms.mdgan": ("fedsynth.training.central_generator", "nvflare_jobs.exchange"),
    "fedsynth.sources*": ("fedsynth.stages.ingest",),  # for `sample.given`; the stage `ingest` starts there
    # what each job's answers may contain
    "nvflare_jobs.validate*": ("fedsynth.hospital.outgoing.validation",),
    "nvflare_jobs.train*": ("fedsynth.hospital.outgoing.rounds",),
    "nvflare_jobs.reference*": ("fedsynth.hospital.outgoing.rounds", "fedsynth.hospital.outgoing.judging"),
    "nvflare_jobs.score*": ("fedsynth.hospital.outgoing.judging",),
}
CLASS = re.compile(r"fedsynth(\.\w+){2,}\.[A-Z]\w*")  # a class path in a string, from which a module builds an object


def digests(start: Iterable[str], classes: Iterable[str] = ()) -> dict[str, str]:
    """Return module or template -> digest, for the modules `start`, those of `classes`, and all that these import.

    `start`: modules or packages (all of their modules). `classes`: class paths named in params.yaml. Raises
    ModuleNotFoundError if a module does not exist.
    """
    named = {path.rpartition(".")[0] for path in classes}
    begun = {*start, *named}
    brings = {of: more for of, more in BROUGHT.items() if any(fnmatchcase(name, of) for name in begun)}
    todo = [m for name in {*begun, *(module for more in brings.values() for module in more)} for m in _modules(name)]
    idle = {of: more for of, more in BROUGHT.items() if of not in brings}
    others = {module for more in idle.values() for module in more} - {
        module for more in brings.values() for module in more
    }
    skipped = (*PLUMBING, *idle, *(f"{module}*" for module in others))
    wanted, found = set(todo), dict[str, str]()
    while todo:
        module = todo.pop()
        if module in found:
            continue
        found[module] = _digest(module)
        found |= {template: _bytes(template) for template in _templates(module)}
        todo += [m for m in _imports(module) if m in wanted or not any(fnmatchcase(m, of) for of in skipped)]
    return dict(sorted(found.items()))


def _modules(name: str) -> list[str]:
    """Return the module with its parent packages, and for a package also the modules in it."""
    if _file(name) is None:
        raise ModuleNotFoundError(f"there is no module {name}")
    folder = _root(name) / Path(*name.split(".")[1:])
    inside = (
        [f"{name}.{path.stem}" for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
        if folder.is_dir()
        else []
    )
    return [*_packages(name), name, *inside]


def _packages(name: str) -> list[str]:
    """Return the parent packages that Python runs before the module, without the top-level one (only a version)."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(2, len(parts))]


@cache
def _root(name: str) -> Path:
    package = name.partition(".")[0]
    spec = find_spec(package) if package in PACKAGES else None
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"there is no package {package}")
    return Path(spec.origin).parent


@cache
def _file(name: str) -> Path | None:
    """Return the path of a module of this project; None if there is no such module."""
    base = _root(name).joinpath(*name.split(".")[1:])
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def _tree(name: str) -> ast.Module:
    """Return the syntax tree of a module without docstrings and without imports for type checkers."""
    path = _file(name)
    assert path is not None, name
    return _Run().visit(ast.parse(path.read_text(encoding="utf-8")))


class _Run(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
        return super().generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else self.generic_visit(node)


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(ast.dump(_tree(name)).encode()).hexdigest()[:16]


@cache
def _imports(name: str) -> tuple[str, ...]:
    """Return this project's modules that a module imports anywhere or names by class path, with their packages."""
    found: set[str] = set()
    for node in ast.walk(_tree(name)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            names += [home for alias in node.names if (home := _home(node.module, alias.name))]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and CLASS.fullmatch(node.value):
            names = [node.value.rpartition(".")[0]]
        for module in names:
            if module.split(".")[0] in PACKAGES and module not in PACKAGES and _file(module):
                found |= {module, *_packages(module)}
    return tuple(sorted(found))


@cache
def _home(package: str, name: str) -> str:
    """Return the module from which a package re-exports a name; empty if it does not."""
    if package.split(".", maxsplit=1)[0] not in PACKAGES or _file(package) is None:
        return ""
    handed = (node for node in _tree(package).body if isinstance(node, ast.ImportFrom) and node.module)
    return next((node.module or "" for node in handed if name in [alias.name for alias in node.names]), "")


@cache
def _templates(module: str) -> tuple[str, ...]:
    """Return the data files that a module names, and those that these name: "fedsynth/report/templates/…".

    Files beside the module and in its folder `templates` are considered.
    """
    path = _file(module)
    assert path is not None
    said = {
        node.value for node in ast.walk(_tree(module)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    there = {p.name: p for folder in (path.parent, path.parent / "templates") for p in _data_files(folder)}
    todo, seen = [name for name in there if name in said], set[str]()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [
                n for n in re.findall(r"[\"']([\w.]+)[\"']", there[name].read_text(encoding="utf-8")) if n in there
            ]
    root = _root(module).parent
    return tuple(sorted(there[name].relative_to(root).as_posix() for name in seen))


@cache
def _data_files(folder: Path) -> tuple[Path, ...]:
    return (
        tuple(p for p in sorted(folder.glob("*.*")) if p.is_file() and p.suffix not in (".py", ".pyc"))
        if folder.is_dir()
        else ()
    )


@cache
def _bytes(template: str) -> str:
    path = _root(template.partition("/")[0]).parent / template
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
