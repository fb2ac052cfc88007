"""Digest of the code that a stage depends on: the modules that its entry points import, transitively.

A digest is of what Python runs: comments, docstrings and layout do not count, so that a tidied file makes nothing
stale. Nothing is imported for it, and it works from an installed package as from a checkout.
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

# What carries, words or ends things and does not change what a stage computes; * stands for any end of a name. The
# values that `params` reads are compared themselves.
PLUMBING = (
    *(f"fedsynth.{name}" for name in ("errors", "processes", "settings", "checks*")),
    *(f"fedsynth.params{name}" for name in ("", ".block", ".model", ".reading", ".study")),
    *(f"fedsynth.hospital.{name}" for name in ("failures", "kit", "outgoing.door")),
    *(f"fedsynth.validation.{name}" for name in ("hints", "verdict_page")),
    *("fedsynth.data.outputs", "fedsynth.networks.monai_imports", "fedsynth.training.checkpoint"),
    *(f"fedsynth.stages.{name}" for name in ("code", "estimate", "inputs", "plan*")),
    *(f"nvflare_jobs.centre.{name}" for name in ("job_folder", "jobs", "program", "show")),
    *(f"nvflare_jobs.server.{name}" for name in ("round_log", "run", "saved", "traffic")),
    *("nvflare_jobs.federation*", "nvflare_jobs.keys", "nvflare_jobs.site.installed"),
)
# What counts only where a stage begins in a module of the first, or a block of params.yaml names a class there: it
# changes nothing for anybody else.
BROUGHT = {
    "fedsynth.compression*": ("fedsynth.training.coding",),
    "fedsynth.algorithms.mdgan": ("fedsynth.training.central_generator", "nvflare_jobs.exchange"),
    "fedsynth.sources*": ("fedsynth.stages.ingest",),  # of `sample.given`; the stage `ingest` begins there
    # what of an answer leaves a site
    "nvflare_jobs.validate*": ("fedsynth.hospital.outgoing.validation",),
    "nvflare_jobs.train*": ("fedsynth.hospital.outgoing.rounds",),
    "nvflare_jobs.reference*": ("fedsynth.hospital.outgoing.rounds", "fedsynth.hospital.outgoing.judging"),
    "nvflare_jobs.score*": ("fedsynth.hospital.outgoing.judging",),
}
CLASS = re.compile(r"fedsynth(\.\w+){2,}\.[A-Z]\w*")  # a path in a string, of which a module builds an object


def digests(start: Iterable[str], classes: Iterable[str] = ()) -> dict[str, str]:
    """Module or template -> digest, of the modules `start`, those of the `classes` that params.yaml names, and all that
    these import.

    `start` may name packages: all of their modules. Raises ModuleNotFoundError where one of them is not there.
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
    """The module itself with the packages that it lies in, or all modules of a package."""
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
    """Those that Python runs before the module, without the outermost, which only holds a version."""
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
    """Where a module of ours lies; None for what is no module."""
    base = _root(name).joinpath(*name.split(".")[1:])
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def _tree(name: str) -> ast.Module:
    """What Python runs of a module: without docstrings and without imports that are for type checkers."""
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
    """The modules of ours that a module imports anywhere, or names the class of, with the packages they lie in."""
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
    """The module from which a package hands a name on; nothing where it does not."""
    if package.split(".", maxsplit=1)[0] not in PACKAGES or _file(package) is None:
        return ""
    handed = (node for node in _tree(package).body if isinstance(node, ast.ImportFrom) and node.module)
    return next((node.module or "" for node in handed if name in [alias.name for alias in node.names]), "")


@cache
def _templates(module: str) -> tuple[str, ...]:
    """Files beside a module, or in its folder `templates`, that it names, and those that these name:
    "fedsynth/report/templates/…".
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
