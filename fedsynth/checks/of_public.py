"""Checks of `score.public`: a source at the centre whose images are no hospital's."""

from __future__ import annotations

from collections.abc import Iterator

from fedsynth.checks import of_sites
from fedsynth.checks.blocks import refused
from fedsynth.checks.of_sites import Hospitals
from fedsynth.params import Params
from fedsynth.params.problems import Problem
from fedsynth.validation.given import of_source


def problems(params: Params, hospitals: Hospitals, look: bool) -> Iterator[Problem]:
    """Yield the problems; `look`: whether its files should be on this machine."""
    block = params.score.public
    if block is None:
        return
    source, wrong = of_sites.opened("score.public", block, of_sites.context(params), look)
    yield from wrong
    if source is None or not look:
        return
    try:
        for site, said in of_source(source, hospitals.sites or [], hospitals.source):
            yield Problem("score.public", block.class_path if site is None else site, said)
    except Exception as error:  # reading a user's files may raise any exception
        yield from refused("score.public", block, error)
