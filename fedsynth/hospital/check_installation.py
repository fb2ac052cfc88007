"""Checks of the versions of Python and of all packages against the requirements of the installed fedsynth."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

from fedsynth.hospital.findings import Finding, fails

MAIN = ("nvflare", "torch", "monai", "numpy", "pandas", "great-expectations", "pydantic")


def versions() -> Iterator[Finding]:
    """Check Python and every package against the metadata of the installed fedsynth; no package is imported."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    try:
        own = metadata.metadata("fedsynth")
    except metadata.PackageNotFoundError:
        yield fails(
            "fedsynth",
            "not installed in this Python",
            "install the wheel that the centre gave you: pip install fedsynth-*.whl",
        )
        return
    python, bound = platform.python_version(), own["Requires-Python"] or ""
    if SpecifierSet(bound).contains(python):
        yield Finding("Python", python)
    else:
        yield fails(
            "Python", f"{python}, needed is {bound}", "make the virtual environment again with a Python of that version"
        )
    good = {"fedsynth": own["Version"]}
    for text in metadata.requires("fedsynth") or []:
        need = Requirement(text)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            yield fails(
                f"package {need.name}",
                f"not installed, needed is {need.specifier or 'any version'}",
                f"pip install '{text}'",
            )
            continue
        if need.specifier.contains(version, prereleases=True):
            good[need.name] = version
        else:
            yield fails(
                f"package {need.name}",
                f"{version}, needed is {need.specifier}",
                f"pip install '{need.name}{need.specifier}'",
            )
    yield Finding(
        "packages", ", ".join(f"{package} {good[package]}" for package in ("fedsynth", *MAIN) if package in good)
    )
