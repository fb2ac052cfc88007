"""Why a run failed, in a sentence, and whom that concerns: for the state of the run and for who is notified.

A sentence is made of a closed list of words with the names of stage, site and job. An error's own text may name a
hospital's files, and a webhook may be outside the hospital: so that text stays in the log and in the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fedsynth.hospital.failures import FAILURES, WORDS

ENGINEER = "the centre's engineer"
MANAGER, OFFICER = "data manager", "data protection officer"  # of a hospital
OFFICERS = ("policy", "paused", "privacy", "withheld")  # the failures that an officer decides about
MARK = "fedsynth: "  # begins the message of a run's state that is made of these words alone, see flows/notify.py
UNKNOWN = "an error at the centre; the log there has the reason"

# What an error of FLARE or of a stage says, as a pattern, and the words for it. {sites}: the pattern's group, which is
# a list of sites or nothing.
KINDS = (
    (r"not connected: (?P<sites>[^;]+)", "{sites} not connected"),
    (r"not there: (?P<sites>[^;]+)", "{sites} not connected"),
    (r"no verdict from (?P<sites>[^:]+)", "{sites} gave no verdict"),
    (r"validation failed at (?P<sites>.+)", "the data of {sites} failed validation"),
    (r"site (?P<sites>.+?) died", "{sites} died"),
    (r"(?P<sites>[^;:]+): no update within the time of grace", "{sites} answered no more"),
    (r"no sign of life", "the job gave no sign of life"),
    (r"server \S+ could not be reached", "the federation's server could not be reached"),
    (r"the server was restarted", "the federation's server was restarted"),
    (r"No space left on device", "the centre's disk is full"),
)


@dataclass(frozen=True)
class Failure:
    """`stage` failed: `said` in a sentence, and whom it `concerns`; `why` is the error's own text, for the log."""

    stage: str
    why: str
    said: str
    concerns: str

    @property
    def sentence(self) -> str:
        return f"{self.stage}, {self.said}; concerns: {self.concerns}"


def failure(stage: str, why: str, sites: Iterable[str], job: str = "") -> Failure:
    """Return the failure of a stage. `why`: what it printed; `sites`: of the consortium; `job`: of FLARE, if any."""
    said, who = _of_sites(why, list(sites)) or _of_kinds(why, list(sites)) or (UNKNOWN, ENGINEER)
    return Failure(stage, why, f"{said} (job {job})" if job else said, who)


def message(what: str, study: str, failures: Iterable[Failure]) -> str:
    """Return what is said of a run: "nightly of busi failed: train@vae, site north …; concerns: …"."""
    return f"{what} of {study} failed: {' / '.join(of.sentence for of in failures)}"


def _of_sites(why: str, sites: list[str]) -> tuple[str, str] | None:
    """Return what hospitals have sent as their failures, each with the site that is named before it.

    In a simulation the sites' own errors are known here: "site north: Diverged: …".
    """
    found: dict[str, str] = {}
    for site in sites:
        if match := re.search(rf"(?<!\w)site {re.escape(site)}: ({'|'.join(WORDS)}|\w+Error): ", why):
            found[site] = WORDS.get(match[1], "error")
    for key, text in FAILURES.items():
        for match in re.finditer(re.escape(text), why):
            line = why[: match.start()].rpartition("\n")[2]
            named = {site: at[-1] for site in sites if (at := _places(site, line))}
            if named:
                found[max(named, key=lambda site: named[site])] = key
    if not found:
        return None
    found = {site: found[site] for site in sites if site in found}  # in an order that does not depend on who was first
    kinds: dict[str, list[str]] = {}
    for site, key in found.items():
        kinds.setdefault(key, []).append(site)
    said = "; ".join(f"{_sites(named)}: {FAILURES[key]}" for key, named in kinds.items())
    return said, _people({site: OFFICER if key in OFFICERS else MANAGER for site, key in found.items()})


def _of_kinds(why: str, sites: list[str]) -> tuple[str, str] | None:
    for pattern, words in KINDS:
        if match := re.search(pattern, why):
            text = match.groupdict().get("sites") or ""
            named = [site for site in sites if _places(site, text)]
            if "{sites}" in words and not named:
                continue
            said = words.format(sites=_sites(named))
            return said, _people(dict.fromkeys(named, MANAGER)) if named else ENGINEER
    return None


def _places(site: str, text: str) -> list[int]:
    return [match.start() for match in re.finditer(rf"(?<!\w){re.escape(site)}(?!\w)", text)]


def _sites(named: list[str]) -> str:
    return f"site{'s' if len(named) > 1 else ''} {', '.join(named)}"


def _people(found: dict[str, str]) -> str:
    return ", ".join(f"{site}'s {role}" for site, role in found.items())
