"""Checks of `source`, `consortium` and `split`: the source itself, site names, quorum, shares."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fedsynth.checks.blocks import Context, built, refused
from fedsynth.params import Block, Params
from fedsynth.params.gates import WORST
from fedsynth.params.near import near
from fedsynth.params.problems import Problem
from fedsynth.sources import Source, path_of

# A dot separates the parts of FLARE's addresses (nvflare/fuel/common/fqn.py), so that its provisioning takes none.
SITE = re.compile(r"[A-Za-z0-9_-]{1,80}")
NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}")  # of what leaves a hospital (fedsynth/hospital/outgoing/closed.py)
TAKEN = {
    "server": "FLARE's own server is called so",
    "simulate_job": "FLARE's simulator calls its job so",
    WORST: f"gates say @{WORST} for whichever is worst",
}


def problems(params: Params, look: bool) -> tuple[list[Problem], list[str] | None]:
    """And the names of the sites, None where nobody knows them. `look`: whether the source's files should be here."""
    theirs, found = sites("source", params.source, context(params), look)
    found += [*_consortium(params, theirs), *_names(params)]
    if (both := params.split.val + params.split.test) >= 1:
        said = f"val and test are {both:g} together, so that nothing is left to train on; they must be below 1"
        found.append(Problem("split", [params.split.val, params.split.test], said))
    named = params.consortium.sites
    return found, theirs if named is None else named


def context(params: Params) -> Context:
    """What a source may ask for."""
    return {"image": params.image.sourced, "seed": params.seed}


def sites(key: str, block: Block, known: Context, look: bool) -> tuple[list[str] | None, list[Problem]]:
    """The sites of the source that a block makes, None where they are not known.

    `look`: whether its files should be here. Its folder and table are read then, no image.
    """
    source: Source | None
    source, found = built(key, "source", block, known)
    if source is None or not look:
        return None, found
    if found := [*_paths(key, block)]:
        return None, found
    try:
        source.look()
        names = source.sites()
    except Exception as error:  # of a table that somebody has written: a reader may raise anything
        return None, refused(key, block, error)
    if not names:
        return None, [Problem(key, block.class_path, "has no site, and so no image; name one")]
    return names, [Problem(place(key, block, name), name, said) for name in names if (said := refusal(name))]


def _paths(key: str, block: Block) -> Iterator[Problem]:
    for argument in ("folder", "file"):
        if isinstance(text := block.args.get(argument), str):
            try:
                path = path_of(text, argument, f"the {argument} of the images")
                wrong = "" if path.exists() else f"{path.absolute()} is not there; name the {argument} of the images"
            except ValueError as error:  # an environment variable that is not set
                wrong = str(error).removeprefix(f"source.args.{argument} {text!r}: ")
            if wrong:
                yield Problem(f"{key}.args.{argument}", text, wrong)


def place(key: str, block: Block, site: object) -> str:
    """Where a block names a site."""
    dealt = block.args.get("partition")
    if isinstance(dealt, dict) and dealt.get("sites"):
        return f"{key}.args.partition.sites"
    return f"{key}.args.sites.{site}" if block.args.get("sites") else key


def refusal(name: object) -> str:
    """Why a site may not have a name, "" where it may."""
    if not isinstance(name, str):
        return "YAML does not take this name for a text; put it in quotes"
    if name in TAKEN:
        return f"no site may have this name: {TAKEN[name]}"
    if not SITE.fullmatch(name):
        said = "FLARE takes letters (without accents), digits, _ and - in the name of a site, 80 at most"
        return f"{said}: no blank, no slash and no dot"
    return ""


def _consortium(params: Params, theirs: list[str] | None) -> Iterator[Problem]:
    """`theirs`: the source's sites, where they are known."""
    asked, named = params.consortium, params.consortium.sites
    for site in dict.fromkeys(named or []):
        if said := refusal(site):
            yield Problem("consortium.sites", site, said)
        elif theirs is not None and site not in theirs:
            said = f"the source has no such site; it has {', '.join(map(str, theirs))}{near(site, map(str, theirs))}"
            yield Problem("consortium.sites", site, said)
        elif named and named.count(site) > 1:
            yield Problem("consortium.sites", site, "is named twice; name each site once")
    there = theirs if named is None else named
    for key, wanted in {"quorum": asked.quorum, "min_sites": asked.min_sites}.items():
        if there is not None and wanted is not None and wanted > len(there):
            said = f"there are not so many sites ({', '.join(map(str, there)) or 'none'}); at most {len(there)}"
            yield Problem(f"consortium.{key}", wanted, said)


def _names(params: Params) -> Iterator[Problem]:
    """What answers are called by must pass the one door out of a hospital."""
    named = {
        "image.channels": params.image.channels,
        "image.labels": params.image.labels,
        "models": params.models,
        "sample.exporters": params.sample.exporters,
        "score.uses": params.score.uses,
        "score.measures": params.score.measures,
    }
    said = "becomes a name in answers and files: letters (without accents), digits, _ - and . alone, 80 at most"
    yield from (Problem(key, name, said) for key, names in named.items() for name in names if not NAME.fullmatch(name))
