"""Checks of a site's policy and record: there, readable, not for FLARE's user to write, whole."""

from __future__ import annotations

import os
from collections.abc import Iterator

from fedsynth.hospital.chain import ChainError
from fedsynth.hospital.findings import Finding, fails, warns
from fedsynth.hospital.policy import PolicyError, load, paused
from fedsynth.hospital.policy.model import place
from fedsynth.hospital.record import Record
from fedsynth.params import names
from fedsynth.settings import Settings


def policy(settings: Settings, name: str) -> Iterator[Finding]:
    """Check the policy that the site's jobs are held against, and the record of what has left."""
    folder = settings.state / names.key(name) if name else settings.state
    path = place(settings, folder)
    try:
        found, digest = load(path)
    except PolicyError as error:
        said = f"{path} is not there" if not path.is_file() else str(error).partition(": ")[2]
        yield fails(
            "policy", said, "every job is refused until `fedsynth policy init` has made one and you have read it"
        )
        return
    if os.geteuid() != 0 and os.access(path, os.W_OK):  # root may write to everything
        yield warns("policy", f"{path} can be written to by this user", f"chown root {path} && chmod 644 {path}")
    elif any(study.params is None for study in found.studies.values()):
        yield warns("policy", f"{path} allows any study", "fedsynth policy init params.yaml, of the agreed one")
    elif (why := paused(path)) is not None:
        yield warns("policy", f"all jobs are paused: {why}", "fedsynth policy resume")
    elif off := [name for name in found.studies if paused(path, name) is not None]:
        yield warns("policy", f"paused: {', '.join(off)}", f"fedsynth policy resume --study {off[0]}")
    else:
        yield Finding("policy", f"{path} (digest {digest[:16]})")
    yield _record(Record(folder))


def _record(record: Record) -> Finding:
    try:
        entries = record.read()
    except ChainError as error:
        return fails("record", str(error), "find out who changed it; every job is refused until it is whole")
    return Finding("record", f"{len(entries)} entries, whole")
