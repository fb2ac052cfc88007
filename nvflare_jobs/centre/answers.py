"""Holds what sites answer against what they were asked: a site whose answer is another one is left out, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedsynth.errors import UserError
from fedsynth.hospital import outgoing
from fedsynth.params import Params
from fedsynth.validation.verdict import SPLITS, withhold
from nvflare_jobs.centre.show import WARNING

Answers = dict[str, dict[str, Any]]


class Refused(UserError):
    """A site's answer is not one to the question; the message names the key, never a text that the site has sent."""


def held(stage: str, found: Answers, hold: Callable[[str, Any], dict[str, Any]], quorum: int = 0) -> Answers:
    """The answers that `hold(site, answer)` lets through; {"failed": why} in the place of each other one.

    Whatever goes wrong with one site's answer is that site's: it ends no stage, unless fewer than `quorum` answers are
    left. Raises Refused then.
    """
    out = {}
    for site, told in found.items():
        out[site] = told if "answer" not in told else _held(hold, site, told["answer"])
        if "answer" in told and "failed" in out[site]:
            print(f"{WARNING}{stage}: {site} is left out: {out[site]['failed']}", flush=True)
    if (good := sum("answer" in of for of in out.values())) < quorum:
        reasons = "; ".join(f"{site}: {of['failed']}" for site, of in out.items() if "failed" in of)
        raise Refused(f"{good} of {len(out)} sites have answered what was asked, {quorum} are needed: {reasons}")
    return out


def _held(hold: Callable[[str, Any], dict[str, Any]], site: str, answer: Any) -> dict[str, Any]:
    try:
        return {"answer": hold(site, answer)}
    except UserError as error:
        return {"failed": f"its answer was refused: {error}"}
    except Exception as error:
        return {"failed": f"its answer was refused: it cannot be used ({type(error).__name__})"}


def combined(
    stage: str, found: Answers, combine: Callable[[Answers], dict[str, Any]], quorum: int = 0
) -> tuple[Answers, dict[str, Any]]:
    """The answers, and what `combine` makes of all of them together: entries of the stage's report.

    Where it fails, the sites are left out with whose answer alone it fails, too. Raises what it raises where that is no
    site or each, and Refused where fewer than `quorum` are left.
    """

    def alone(site: str, answer: Any) -> Any:
        combine({site: {"answer": answer}})
        return answer

    try:
        return found, combine(found)
    except Exception:
        there = [site for site, of in found.items() if "answer" in of]
        bad = [site for site in there if "failed" in _held(alone, site, found[site]["answer"])]
        if not 0 < len(bad) < len(there):
            raise
    kept = held(stage, found, lambda site, answer: alone(site, answer) if site in bad else answer, quorum)
    return kept, combine(kept)


def verdict(params: Params, site: str, answer: Any) -> dict[str, Any]:
    """A site's verdict. Raises LeakError or Refused where it contradicts itself."""
    found = outgoing.arrive("validate", answer, outgoing.vocabulary("validate", params), params.consortium.min_cell)
    labels, counts = set(params.image.labels), found["counts"]
    demand(counts.keys() == labels and all(c.keys() == set(SPLITS) for c in counts.values()),
            "counts: are not of each class and split")  # fmt: skip
    cells = [n for of in counts.values() for n in of.values()]
    hidden = {n for n in [*cells, found["images"]] if isinstance(n, str)}
    demand(len(hidden) < 2, "counts: are withheld below more than one number")
    least = int(next(iter(hidden)).split()[1]) if hidden else params.consortium.min_cell
    demand(least >= params.consortium.min_cell and all(isinstance(n, str) or n >= least for n in cells),
            "counts: are withheld below another number than they should")  # fmt: skip
    demand(found["images"] == withhold(sum(n for n in cells if isinstance(n, int)), least),
            "images: is not the sum of the counts")  # fmt: skip
    demand(found["passed"] == (not found["failed"]), "passed: contradicts the expectations that failed")
    for kind in ("failed", "warnings"):
        told = [of["expectation"] for of in found[kind]]
        demand(len(set(told)) == len(told), f"{kind}: has an expectation twice")
    demand(bool(found["digest"]) or not found["passed"], "digest: is missing")
    return found


def look(site: str, answer: Any) -> dict[str, Any]:
    """The digest of a site's data."""
    return outgoing.arrive("look", answer, (), outgoing.MIN_CELL)


def demand(holds: bool, why: str) -> None:
    """Raises Refused where a condition does not hold."""
    if not holds:
        raise Refused(why)
