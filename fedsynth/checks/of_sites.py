"""Checks of `source`, `consortium` and `split`: the source itself, site names, quorum, shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fedsynth.checks.blocks import Context, built, refused
from fedsynth.params import Block, Params, ParamsError, names
from fedsynth.params.near import near
from fedsynth.params.problems import Problem
from fedsynth.sources import Source, path_of
from fedsynth.validation.given import of_source


class Hospitals(NamedTuple):
    """The sites of the study, None if unknown, and their source, None if its files are not on this machine."""

    sites: list[str] | None
    source: Source | None


def problems(params: Params, look: bool) -> tuple[list[Problem], Hospitals]:
    """Return the problems and the hospitals; `look`: whether the source's files should be on this machine."""
    source, found = opened("source", params.source, context(params), look)
    theirs = source.sites() if source and look else None
    found += _consortium(params, theirs)
    if (both := params.split.val + params.split.test) >= 1:
        said = f"val and test are {both:g} together, so that nothing is left to train on; they must be below 1"
        found.append(Problem("split", [params.split.val, params.split.test], said))
    named = params.consortium.sites
    found += _roles(params, theirs if named is None else named)
    return found, Hospitals(theirs if named is None else named, source if look else None)


def _roles(params: Params, there: list[str] | None) -> Iterator[Problem]:
    """Yield the problems of `split.train_only` and `split.test_only`; `there`: the sites, None if unknown."""
    split = params.split
    for key, others in {"train_only": [], "test_only": split.train_only}.items():
        for site in getattr(split, key):
            if there is not None and names.find(site, map(str, there)) is None:
                said = f"there is no such site; there are {', '.join(map(str, there))}{near(site, map(str, there))}"
                yield Problem(f"split.{key}", site, said)
            elif names.find(site, others):
                yield Problem(f"split.{key}", site, "is in split.train_only, too; take it out of one of them")
    if not there:
        return
    if not split.testing(there):
        yield Problem("split.train_only", split.train_only, "holds every site, so that none tests; take one out")
    training = split.training(there)
    if split.test_only and len(training) < (least := max(1, params.consortium.min_sites)):
        said = f"leaves {len(training)} of {len(there)} sites to train, and consortium.min_sites is {least}"
        yield Problem("split.test_only", split.test_only, said)


def context(params: Params) -> Context:
    """Return what the constructors of sources may ask for by name."""
    return {"image": params.image.sourced, "seed": params.seed}


def opened(key: str, block: Block, known: Context, look: bool) -> tuple[Source | None, list[Problem]]:
    """Return the block's source, None if it is invalid, and the problems.

    `look`: whether its files should be on this machine. If so, its folder and table are read, but no image.
    """
    source: Source | None
    source, found = built(key, "source", block, known)
    if source is None or not look:
        return source, found
    if found := [*_paths(key, block)]:
        return None, found
    try:
        source.look()
        sites = source.sites()
    except Exception as error:  # reading a user's files may raise any exception
        return None, refused(key, block, error)
    if not sites:
        at = f"{key}.args.sites" if "sites" in block.args else key
        return None, [Problem(at, None, "has no site, and so no image; name one")]
    wrong = [Problem(place(key, block, site), site, said) for site in sites if (said := names.of_site(site))]
    return source, wrong or [*_alike(key, sites)]


def at_centre(key: str, block: Block, params: Params, hospitals: Hospitals, look: bool) -> Iterator[Problem]:
    """Yield the problems of a source whose images are at the centre, and so must be no hospital's."""
    source, wrong = opened(key, block, context(params), look)
    yield from wrong
    if source is None or not look:
        return
    try:
        for site, said in of_source(source, hospitals.sites or [], hospitals.source):
            at = key if site is None else place(key, block, site)
            yield Problem(at, block.class_path if site is None else site, said)
    except Exception as error:  # reading a user's files may raise any exception
        yield from refused(key, block, error)


def _alike(key: str, sites: list[str]) -> Iterator[Problem]:
    """Yield site names that are too similar."""
    try:
        names.keys(sites)
    except ParamsError as error:
        yield Problem(key, None, str(error))


def _paths(key: str, block: Block) -> Iterator[Problem]:
    """Yield the paths in the arguments that do not exist."""
    for argument in ("folder", "file"):
        if isinstance(text := block.args.get(argument), str):
            try:
                path = path_of(text, argument, f"the {argument} of the images")
                if not text.strip():
                    raise ValueError(f"is empty; name the {argument} of the images")
                wrong = "" if path.exists() else f"{path.absolute()} is not there; name the {argument} of the images"
            except ValueError as error:  # an environment variable that is not set
                wrong = str(error).removeprefix(f"source.args.{argument} {text!r}: ")
            if wrong:
                yield Problem(f"{key}.args.{argument}", text, wrong)


def place(key: str, block: Block, site: object) -> str:
    """Return the key under which a block names a site."""
    dealt = block.args.get("partition")
    if isinstance(dealt, dict) and dealt.get("sites"):
        return f"{key}.args.partition.sites"
    shown = site if str(site).isprintable() else "(unprintable)"
    return f"{key}.args.sites.{shown}" if block.args.get("sites") else key


def _consortium(params: Params, theirs: list[str] | None) -> Iterator[Problem]:
    """Yield the problems of `consortium`; `theirs`: the sites of the source, None if unknown."""
    asked, named = params.consortium, params.consortium.sites
    for site in dict.fromkeys(named or []):
        if said := names.of_site(site):
            yield Problem("consortium.sites", site, said)
        elif theirs is not None and names.find(site, map(str, theirs)) is None:
            said = f"the source has no such site; it has {', '.join(map(str, theirs))}{near(site, map(str, theirs))}"
            yield Problem("consortium.sites", site, said)
    there = theirs if named is None else named
    for key, wanted in {"quorum": asked.quorum, "min_sites": asked.min_sites}.items():
        if there is not None and wanted is not None and wanted > len(there):
            said = f"there are not so many sites ({', '.join(map(str, there)) or 'none'}); at most {len(there)}"
            yield Problem(f"consortium.{key}", wanted, said)
