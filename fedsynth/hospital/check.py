"""Checks of a hospital's site before it takes part: installation, folders, data and startup kit, each with what to do
where it fails.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fedsynth.data.manifest import FILE, SPLITS
from fedsynth.errors import UserError
from fedsynth.hospital.kit import Kit, KitError, json_of
from fedsynth.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

MAIN = ("nvflare", "torch", "monai", "numpy", "pandas", "great-expectations", "pydantic")
FOLDERS = {
    "FEDSYNTH_DATA": "the folder that holds the site's ingested set, <folder>/<site>/",
    "FEDSYNTH_STATE": "the folder where the site keeps what stays at the site: trainings' state and validation reports",
}
FAIL_GIB, WARN_GIB = 1, 5
WARN_DAYS = 30
CLIENT = "nvflare_jobs.site.installed.Installed"  # what runs at a site in a job that carries no code
RUNNERS = (
    "nvflare.app_common.executors.client_api_executor.ClientAPIExecutor",
    "nvflare_jobs.site.installed.ClientAPIExecutor",
)


@dataclass(frozen=True)
class Finding:
    """One row of the table: `what` was looked at, what was `found`, and what to do (`todo`,
    empty where all is well).
    """

    what: str
    found: str
    verdict: Literal["ok", "warning", "fails"] = "ok"
    todo: str = ""


def fails(what: str, found: str, todo: str) -> Finding:
    return Finding(what, found, "fails", todo)


def warns(what: str, found: str, todo: str) -> Finding:
    return Finding(what, found, "warning", todo)


def site(settings: Settings, name: str | None, kit: Path | None, timeout_s: float) -> Iterator[Finding]:
    """All findings, as they come. Without a `name` it is the one that the kit names; without a `kit` the kit is not
    looked at.
    """
    found: Kit | Finding
    try:
        found = Kit.of_site(kit) if kit else warns("startup kit", "not looked at", "give its folder with --kit FOLDER")
    except KitError as error:
        found = of_kit(error)
    name = name or (found.user if isinstance(found, Kit) else "")
    yield from versions()
    for variable, folder in (("FEDSYNTH_DATA", settings.data), ("FEDSYNTH_STATE", settings.state)):
        yield from place(variable, folder)
    yield from data(settings, name)
    if isinstance(found, Kit):
        yield from startup_kit(found, name, timeout_s)
    else:
        yield found


# --- the installation


def versions() -> Iterator[Finding]:
    """Python and every package against the bounds that the installed fedsynth declares; nothing is imported for it."""
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


# --- the folders


def place(variable: str, folder: Path) -> Iterator[Finding]:
    """A folder that an environment variable names: set, there, usable, closed to others, with room on its disk."""
    if not os.environ.get(variable):
        yield fails(
            variable,
            "not set",
            f"set it to {FOLDERS[variable]}, here and in the environment of the site's service (site.env)",
        )
        return
    if not folder.is_dir():
        parent = nearest(folder)
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            yield warns(variable, f"{folder} is not there yet", f"mkdir -p {folder} && chmod 700 {folder}")
        else:
            yield fails(
                variable,
                f"{folder} is not there and cannot be made",
                f"make it a folder that this user may write to: {folder}",
            )
    elif variable == "FEDSYNTH_STATE" and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield fails(
            variable,
            f"{folder} cannot be written to",
            f"give it to the user that runs the site: chown -R USER {folder}",
        )
    elif not os.access(folder, os.R_OK | os.X_OK):
        yield fails(
            variable, f"{folder} cannot be read", f"let the user that runs the site read it: chown -R USER {folder}"
        )
    elif mode := folder.stat().st_mode & 0o077:
        yield warns(variable, f"{folder} is open to other users (mode …{mode:02o})", f"chmod 700 {folder}")
    else:
        yield Finding(variable, str(folder))
    yield room(variable, folder)


def room(variable: str, folder: Path) -> Finding:
    free = shutil.disk_usage(nearest(folder)).free / 2**30
    what, found = f"disk of {variable}", f"{free:.1f} GiB free"
    if free < FAIL_GIB:
        return fails(what, found, f"make room: less than {FAIL_GIB} GiB does not last a training")
    return (
        warns(what, found, f"make room: less than {WARN_GIB} GiB may not last")
        if free < WARN_GIB
        else Finding(what, found)
    )


def nearest(path: Path) -> Path:
    """The path itself, or the nearest of its parents that is there."""
    return next(p for p in (path, *path.parents) if p.exists())


# --- the data


def data(settings: Settings, name: str) -> Iterator[Finding]:
    """The site's set: every pixel is that of the manifest; with a params.yaml at hand the validation, of which nothing
    is written.
    """
    if not name:
        yield warns(
            "data",
            "not looked at: the site's name is not known",
            "give it with --site NAME, or the startup kit with --kit FOLDER",
        )
        return
    if not os.environ.get("FEDSYNTH_DATA"):
        yield warns("data", "not looked at: FEDSYNTH_DATA is not set", "set it, then check again")
        return
    folder = settings.data / name
    if not (folder / FILE).is_file():
        yield fails(
            "data", f"{folder / FILE} is not there", f"fedsynth ingest --site {name} (in the folder of params.yaml)"
        )
        return
    from fedsynth.data.dataset import ImageSet

    try:
        found = ImageSet.load(folder)
    # numpy and pandas say by these what they cannot read
    except (UserError, ValueError, IndexError, EOFError, OSError) as error:
        yield fails("data", str(error), f"make the set again: fedsynth ingest --site {name}")
        return
    yield contents(found.manifest)
    if (settings.root / "params.yaml").is_file():
        yield validation(settings.root / "params.yaml", folder, name)
    else:
        yield warns(
            "validation",
            f"no params.yaml in {settings.root}",
            "run this in the folder of the consortium's params.yaml to validate",
        )


def contents(rows: pd.DataFrame) -> Finding:
    """ "48 images: none 16 (10 train, 2 val, 4 test), …" """
    parts = []
    for label, some in rows.groupby("label"):
        splits = some["split"].value_counts()
        parts.append(
            f"{label or '(no label)'} {len(some)} ({', '.join(f'{splits[s]} {s}' for s in SPLITS if s in splits)})"
        )
    text = f"{len(rows)} images: {', '.join(parts)}"
    if bad := int((rows["problem"] != "").sum()):
        return warns(
            "data",
            f"{text}; {bad} could not be used",
            "the validation's report names them: fedsynth validate FOLDER --docs FOLDER",
        )
    return (
        Finding("data", text)
        if len(rows)
        else fails("data", "a set without images", "check the table of your images, then ingest again")
    )


def validation(path: Path, folder: Path, name: str) -> Finding:
    from fedsynth import params
    from fedsynth.validation import expectations

    try:
        verdict = expectations.validate(folder, params.load(path), name, docs=None)
    except params.ParamsError as error:
        return fails("validation", str(error), "ask the centre for the params.yaml of this version of fedsynth")
    count = f"{len(verdict.checked)} expectations"
    if verdict.passed:
        return Finding("validation", f"passed, {count}, {len(verdict.warnings)} with warnings")
    names = ", ".join(f.expectation for f in verdict.failures)
    return fails(
        "validation",
        f"{len(verdict.failures)} of {count} failed: {names}",
        f"fedsynth validate {folder} names rows, files, remedy",
    )


# --- the startup kit


def startup_kit(kit: Kit, name: str, timeout_s: float) -> Iterator[Finding]:
    """The kit is this site's, its key is secret, its certificate good, and the server takes it. Never shows key
    material.
    """
    if name != kit.user:
        yield fails(
            "startup kit",
            f"made for {kit.user!r}, not {name!r}",
            f"use --site {kit.user}, or ask the centre for the kit of {name}",
        )
    else:
        yield Finding("startup kit", f"of {kit.user}")
    if kit.folder.stat().st_mode & 0o077:
        yield warns(
            "kit's folder",
            f"{kit.folder} is open to other users; its logs name rows and files",
            f"chmod 700 {kit.folder}",
        )
    faults = {fault.what: fault for fault in kit.faults()}
    yield from map(of_kit, faults.values())
    if "private key" not in faults:
        yield Finding("private key", "readable by its owner alone")
    if "certificate" not in faults:
        yield dates(kit)
    if not faults:
        yield Finding("certificate's signature", "issued by the kit's rootCA.pem, for this site and this key")
    yield from policy(kit.folder)
    yield from server(kit, timeout_s, good=not any(what.startswith("certificate") for what in faults))


def of_kit(error: KitError) -> Finding:
    return fails(error.what, error.found, error.todo)


def dates(kit: Kit) -> Finding:
    """Of a kit that is valid now."""
    start, end = kit.valid()
    text, left = f"valid from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC", end - datetime.now(UTC)
    if left < timedelta(days=WARN_DAYS):
        return warns("certificate", f"{text}, {left.days} days left", "ask the centre for a new startup kit now")
    return Finding("certificate", text)


def server(kit: Kit, timeout_s: float, good: bool) -> Iterator[Finding]:
    """The server's port answers, and takes the kit; what it says to a kit that is not `good` says nothing new."""
    try:
        with kit.connect(timeout_s) as connection:
            yield Finding("server", f"{kit.address} answers")
            if kit.security != "mtls":
                found, todo = (
                    f"not tried: the kit asks for {kit.security!r}",
                    "ask the centre whether mutual TLS is meant",
                )
                yield warns("server takes this kit", found, todo)
            elif good:
                kit.shake(connection, timeout_s)
                yield Finding("server takes this kit", f"mutual TLS with {kit.identity}")
    except KitError as error:
        yield of_kit(error)


# --- the site's policy


def policy(kit: Path) -> Iterator[Finding]:
    """What the site lets jobs and FLARE do, by local/resources.json or else the default that came with the kit."""
    path = next((p for n in ("resources.json", "resources.json.default") if (p := kit / "local" / n).is_file()), None)
    if path is None:
        yield fails(
            "local/resources.json",
            "not there, and no default either",
            "unzip the kit again, then copy docs/site/resources.json there",
        )
        return
    if not (settings := json_of(path)):
        yield fails(
            f"local/{path.name}",
            "not a JSON object: FLARE does not start with it",
            "mend it, or take docs/site/resources.json",
        )
        return
    listed = settings.get("class_allow_list")
    entries = [str(e) for e in listed] if isinstance(listed, list) else []
    remedy = f'put "{CLIENT}" into class_allow_list of local/resources.json'
    if not _allows(entries, CLIENT):
        yield warns(
            "jobs without code", f"refused by {path.name}", f"only if the federation's jobs carry no code: {remedy}"
        )
    else:
        yield Finding("jobs without code", f"allowed by {path.name}")
    if settings.get("class_list_enforcement_mode") == "warn" or any(_allows(entries, runner) for runner in RUNNERS):
        yield warns(
            "class_allow_list",
            f"{path.name} lets a job without code run any command",
            f"name classes in full: {remedy}, alone",
        )
    if settings.get("allow_log_streaming", True) is not False:
        yield warns(
            "logs",
            f"{path.name} lets FLARE send logs to the centre",
            'set "allow_log_streaming": false in local/resources.json',
        )
    else:
        yield Finding("logs", "stay at the site")


def _allows(entries: list[str], path: str) -> bool:
    """FLARE's own rule: everything, the path itself, or a package or module that it lies in."""
    return any(e in ("*", path) or path.startswith(f"{e.removesuffix('.')}.") for e in entries)
