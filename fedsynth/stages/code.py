"""Digests of the code that a stage depends on: its entry points and all modules that they import, transitively.

A digest covers the code that Python runs, without comments, docstrings and layout, so that editing these makes no stage
stale. Modules are parsed, not imported; this works for an installed package and for a checkout. To parse them all takes
more than a second, so that a run keeps what it has read of each file until the file's content changes.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase, translate
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("fedsynth", "nvflare_jobs")

# Modules that transport, format or stop things and do not change what a stage computes; * matches any suffix. The
# values that `params` reads are compared separately.
PLUMBING = (
    *(f"fedsynth.{name}" for name in ("errors", "processes", "settings", "checks*")),
    *(
        f"fedsynth.params{name}"
        for name in ("", ".block", ".family_defaults", ".model", ".reading", ".start", ".study")
    ),
    *(f"fedsynth.hospital.{name}" for name in ("failures", "kit", "outgoing.door", "policy*", "record", "chain")),
    # whom they leave out is in data/source.json
    *(f"fedsynth.hospital.{name}" for name in ("pseudonyms", "trained", "withdrawals")),
    *(f"fedsynth.validation.{name}" for name in ("hints", "look*", "verdict_page")),
    *(
        "fedsynth.data.outputs",
        "fedsynth.networks.monai_imports",
        "fedsynth.training.checkpoint",
        "fedsynth.training.rank",
    ),
    "fedsynth.registry.starts",
    *(f"fedsynth.stages.{name}" for name in ("code", "estimate", "inputs", "plan*")),
    *(f"nvflare_jobs.centre.{name}" for name in ("job_folder", "jobs", "program", "show")),
    *(f"nvflare_jobs.server.{name}" for name in ("round_log", "run", "saved", "traffic")),
    *("nvflare_jobs.federation*", "nvflare_jobs.keys"),
    *(f"nvflare_jobs.site.{name}" for name in ("installed", "submitter", "workspaces")),
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
DATA_FILE = re.compile(r"[\w-]+(\.[\w-]+)+")  # a string that may be the name of a data file
KEPT = Path(".work") / "code.json"  # {module: what its file says}


@dataclass(frozen=True)
class Read:
    """What a file of this project says, which follows from its content alone.

    `content`: digest of file and reader; `code`: digest of the code; `names`: modules and names in modules that it
    imports or names by class path; `imported`: name that it imports at the top -> the module; `texts`: strings that may
    be names of data files.
    """

    content: str
    code: str
    names: tuple[str, ...]
    imported: dict[str, str]
    texts: tuple[str, ...]


def digests(start: Iterable[str], classes: Iterable[str] = (), root: Path | None = None) -> dict[str, str]:
    """Return module or template -> digest, for the modules `start`, those of `classes`, and all that these import.

    `start`: modules or packages (all of their modules). `classes`: class paths named in params.yaml. `root`:
    the project's folder, where what was read is kept. Raises ModuleNotFoundError if a module does not exist.
    """
    if root is not None:
        _recall(root)
    named = {path.rpartition(".")[0] for path in classes}
    begun = {*start, *named}
    brings = {of: more for of, more in BROUGHT.items() if any(fnmatchcase(name, of) for name in begun)}
    todo = [m for name in {*begun, *(module for more in brings.values() for module in more)} for m in _modules(name)]
    idle = {of: more for of, more in BROUGHT.items() if of not in brings}
    others = {module for more in idle.values() for module in more} - {
        module for more in brings.values() for module in more
    }
    skipped = re.compile("|".join(map(translate, (*PLUMBING, *idle, *(f"{module}*" for module in others)))))
    wanted, found = set(todo), dict[str, str]()
    while todo:
        module = todo.pop()
        if module in found:
            continue
        found[module] = _read(module).code
        found |= {template: _bytes(template) for template in _templates(module)}
        todo += [m for m in _imports(module) if m in wanted or not skipped.match(m)]
    if root is not None and _new:
        _keep(root)
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
def _read(name: str) -> Read:
    """Return what a module's file says; it is parsed where that is not known from an earlier run."""
    path = _file(name)
    assert path is not None, name
    raw = path.read_bytes()
    content = hashlib.sha256(_reader() + raw).hexdigest()
    known = _known.get(name, {})
    if known.get("content") == content:
        return Read(**known)
    tree = _Run().visit(ast.parse(raw.decode("utf-8")))
    names, texts = set[str](), set[str]()
    for node in ast.walk(tree):
        names |= set(_named(node))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and DATA_FILE.fullmatch(node.value):
            texts.add(node.value)
    top = [(node.module, alias.name) for node in tree.body if isinstance(node, ast.ImportFrom) and node.module
           for alias in node.names]  # fmt: skip
    code = hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
    made = Read(content, code, tuple(sorted(names)), {of: module for module, of in reversed(top)}, tuple(sorted(texts)))
    _known[name] = asdict(made)
    _new.add(name)
    return made


_known: dict[str, dict[str, Any]] = {}  # what earlier runs and this process have read
_new: set[str] = set()  # what of it is not kept yet


@cache
def _recall(root: Path) -> None:
    try:
        _known.update(json.loads((root / KEPT).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):  # it only saves time
        return


def _keep(root: Path) -> None:
    path = root / KEPT
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")  # stages that run at the same time keep what they have read, too
    part.write_text(json.dumps(_known), encoding="utf-8")
    part.replace(path)
    _new.clear()


@cache
def _reader() -> bytes:
    """Return what, beside a file, decides what is read in it: Python's version and this module."""
    return sys.version.encode() + Path(__file__).read_bytes()


def _named(node: ast.AST) -> Iterator[str]:
    """Yield the modules of this project, and names in them, that a node imports or names by class path."""
    found: list[str] = []
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and CLASS.fullmatch(node.value):
        found = [node.value.rpartition(".")[0]]
    yield from (name for name in found if name.split(".")[0] in PACKAGES and name not in PACKAGES)


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
def _imports(name: str) -> tuple[str, ...]:
    """Return this project's modules that a module imports anywhere or names by class path, with their packages."""
    named = _read(name).names
    found = {*named, *filter(None, (_home(of) for of in named))}
    return tuple(sorted({of for module in found if _file(module) for of in (module, *_packages(module))}))


@cache
def _home(named: str) -> str:
    """Return the module from which a package re-exports a name, "package.name"; empty if it does not."""
    package, _, name = named.rpartition(".")
    module = _read(package).imported.get(name, "") if _file(package) else ""
    return module if module.split(".")[0] in PACKAGES and module not in PACKAGES else ""


@cache
def _templates(module: str) -> tuple[str, ...]:
    """Return the data files that a module names, and those that these name: "fedsynth/report/templates/…".

    Files beside the module and in its folder `templates` are considered.
    """
    path = _file(module)
    assert path is not None
    said = _read(module).texts
    there = {p.name: p for folder in (path.parent, path.parent / "templates") for p in _data_files(folder)}
    todo, seen = [name for name in there if name in said], set[str]()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [
                n
                for n in re.findall(r"[\"']([\w.]+)[\"']", there[name].read_text(encoding="utf-8", errors="ignore"))
                if n in there
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
