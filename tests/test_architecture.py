"""Who may import whom, and what `import` and `--help` may cost."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

# package -> the files of ours that may import it
ONLY_IN = {
    "great_expectations": {"fedsynth/validation/expectations.py"},
    "mlflow": {"fedsynth/registry/tracking.py", "fedsynth/registry/versions.py", "fedsynth/registry/serving.py"},
    "prefect": {"flows/"},
    "dvc": {"flows/dvcx.py"},
    "nvflare": {"nvflare_jobs/"},
    "opacus": {"fedsynth/privacy/"},
    "tenseal": {"fedsynth/privacy/"},
    "pydicom": {"fedsynth/data/series.py", "fedsynth/exporters/dicom.py"},
    "highdicom": {"fedsynth/data/series.py", "fedsynth/exporters/dicom.py"},
    "flows": {"flows/"},
    "nvflare_jobs": {"nvflare_jobs/", "flows/"},
}


def sources() -> list[Path]:
    return [p for folder in ("fedsynth", "flows", "nvflare_jobs") for p in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imported_modules(path)}


def imported_modules(path: Path) -> set[str]:
    """What is imported anywhere in a file, "x.y" also for `from x import y`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_what_its_layer_may(path):
    name = str(path.relative_to(ROOT))
    for package, allowed in ONLY_IN.items():
        if package in imported(path):
            assert any(name.startswith(a) for a in allowed), f"{name} imports {package}, which only {sorted(allowed)} may"


def test_the_command_line_imports_nothing_heavy_and_helps_within_a_second():
    heavy = ("torch", "monai", "pandas", "mlflow", "great_expectations", "nvflare")
    script = f"import sys, fedsynth.__main__; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    best = float("inf")
    for _ in range(3):  # the best of three, in processor time: the machine may be busy, the command must not be
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "fedsynth", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert best < 1


def test_importing_the_package_makes_no_file_and_reads_no_environment(tmp_path):
    script = "import fedsynth, fedsynth.params, fedsynth.settings, fedsynth.data.manifest"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, env={"PATH": ""})
    assert list(tmp_path.iterdir()) == []


# What carries, words or ends things and does not change what a stage computes. `params` decides all of it, and DVC compares its values
# themselves; what `manifest` decides is in the data; `outgoing` lets through or refuses.
PLUMBING = {
    *(f"fedsynth/{name}.py" for name in ("__init__", "checkpoint", "errors", "failures", "kit", "lean", "manifest", "outgoing")),
    *(f"fedsynth/{name}.py" for name in ("outputs", "params", "processes", "settings", "stages/__init__", "verdict_page")),
    *(f"nvflare_jobs/{name}.py" for name in ("__init__", "build", "centre", "federation", "installed", "kept", "keys", "local")),
    *(f"nvflare_jobs/{name}.py" for name in ("provisioned", "rounds", "simulator")),
    "nvflare_jobs/server/traffic.py",  # counts what passes
    "fedsynth/training/coding.py",  # changes what `train` computes, which lists it; the other jobs code nothing
    *(str(path.relative_to(ROOT)) for path in (ROOT / "fedsynth" / "compression").glob("*.py")),
}


def computing(start: set[str]) -> set[str]:
    """The project's files that the files of `start` import, and those import, except through plumbing."""
    seen, todo = set(), set(start)
    while todo:
        name = todo.pop()
        if name in seen or name in PLUMBING or not name.endswith(".py"):
            continue
        seen.add(name)
        todo |= {file for module in imported_modules(ROOT / name) if (file := file_of(module))}
    return seen


def file_of(module: str) -> str | None:
    stem = module.replace(".", "/")
    return next((f for f in (f"{stem}.py", f"{stem}/__init__.py") if (ROOT / f).is_file()), None)


def stages() -> dict[str, dict]:
    return {name: stage.get("do", stage) for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()}


def test_what_codes_arrays_is_among_the_code_of_the_one_stage_that_sends_coded_ones():
    assert {"fedsynth/training/coding.py", "fedsynth/compression"} <= set(stages()["train"]["deps"])


@pytest.mark.parametrize("name", [name for name in stages() if name != "source"])  # that one is never skipped
def test_a_stage_depends_on_all_code_that_computes_its_result(name):
    stage = stages()[name]
    deps = {d for d in stage["deps"] if d.startswith(("fedsynth/", "nvflare_jobs/"))}
    listed = {str(f.relative_to(ROOT)) for d in deps for f in ([ROOT / d] if (ROOT / d).is_file() else (ROOT / d).glob("*.py"))}
    words = stage["cmd"].split()
    entry = {f"fedsynth/stages/{words[1]}.py"} if words[0] == "fedsynth" else set()
    assert computing(listed | entry) - listed == set()
