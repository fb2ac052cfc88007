"""Checks of a hospital's site before it takes part: installation, folders, data and startup kit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedsynth.hospital.check_data import data
from fedsynth.hospital.check_folders import place
from fedsynth.hospital.check_installation import versions
from fedsynth.hospital.check_kit import of_kit, startup_kit
from fedsynth.hospital.check_policy import policy
from fedsynth.hospital.findings import Finding, warns
from fedsynth.hospital.kit import Kit, KitError
from fedsynth.settings import Settings


def site(settings: Settings, name: str | None, kit: Path | None, timeout_s: float) -> Iterator[Finding]:
    """Yield all findings of a site, one by one.

    `name`: the site's name; None: the name in the kit. `kit`: the folder of the startup kit; None: the kit is not
    checked. `timeout_s`: seconds to wait for the server.
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
    yield from policy(settings, name)
    if isinstance(found, Kit):
        yield from startup_kit(found, name, timeout_s)
    else:
        yield found
