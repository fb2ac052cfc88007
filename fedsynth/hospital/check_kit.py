"""Checks of a site's startup kit, its certificate, the server's address, and the site's FLARE policy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fedsynth.hospital.findings import Finding, fails, warns
from fedsynth.hospital.kit import Kit, KitError, json_of
from fedsynth.params import names

WARN_DAYS = 30
CLIENT = "nvflare_jobs.site.installed.Installed"  # the executor of a job that carries no code
RUNNERS = (
    "nvflare.app_common.executors.client_api_executor.ClientAPIExecutor",
    "nvflare_jobs.site.installed.ClientAPIExecutor",
)


def startup_kit(kit: Kit, name: str, timeout_s: float) -> Iterator[Finding]:
    """Check that the kit is this site's, its key is private, its certificate is valid and the server accepts it.

    No finding shows key material.
    """
    if names.key(name) != kit.user:
        yield fails(
            "startup kit",
            f"made for {kit.user!r}, not {name!r}",
            f"use --site {kit.user}, or ask the centre for the kit of {names.key(name)}",
        )
    else:
        yield Finding("startup kit", f"of {kit.user}")
    if any(c.isspace() for c in str(kit.folder)):
        yield fails(
            "kit's folder",
            f"{kit.folder} has a blank in its path, and FLARE cannot start a job's processes there",
            "move the kit to a folder without blanks in its path",
        )
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
    """Report the validity of a certificate that is valid now; warn if fewer than WARN_DAYS days are left."""
    start, end = kit.valid()
    text, left = f"valid from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC", end - datetime.now(UTC)
    if left < timedelta(days=WARN_DAYS):
        return warns("certificate", f"{text}, {left.days} days left", "ask the centre for a new startup kit now")
    return Finding("certificate", text)


def server(kit: Kit, timeout_s: float, good: bool) -> Iterator[Finding]:
    """Check that the server's port answers and that the server accepts the kit.

    `good`: whether the certificate has no faults; if it has, the TLS handshake is not tried, because it would fail for
    the same reason.
    """
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


def policy(kit: Path) -> Iterator[Finding]:
    """Check what the site's FLARE policy allows jobs to do.

    It is read from local/resources.json, else from the default that came with the kit.
    """
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
    """Apply FLARE's rule: an entry allows everything ("*"), the class path itself, or all in a package or module."""
    return any(e in ("*", path) or path.startswith(f"{e.removesuffix('.')}.") for e in entries)
