"""Checks of `score` and `gates`: uses, feature space, measures, and the names that gates use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from fedsynth.checks.blocks import built, refused
from fedsynth.checks.sizes import Size, Sizes, Trial
from fedsynth.data import mends
from fedsynth.params import Block, Image, Params
from fedsynth.params.gates import WORST, Gate, meant, parse
from fedsynth.params.names import find
from fedsynth.params.near import near
from fedsynth.params.problems import Problem
from fedsynth.uses import Use
from fedsynth.uses.classification import Classification
from fedsynth.worth import calibration
from fedsynth.worth.facts import BY_SITE, OF_THE_SET, WORTH

NONE_SEEN = 3.69  # upper end of the 95 % interval of a Poisson mean of which nothing was seen (Garwood 1936)
MOST_NUMBERS = 64  # in an answer of a hospital (fedsynth/hospital/outgoing/closed.py)


@dataclass
class Numbers:
    """The numbers that gates may name: metrics by use, None if the use is invalid; numbers of measures; OF_THE_SET."""

    uses: dict[str, list[str] | None] = field(default_factory=dict)
    measures: list[str] = field(default_factory=list)
    whole: bool = True  # whether all measures are valid
    built: list[Use] = field(default_factory=list)
    lacking: dict[str, str] = field(default_factory=dict)  # {number: reason} of those that the study cannot have
    pooled: set[str] = field(default_factory=set)  # those of all sites together
    counts: set[str] = field(default_factory=set)  # those that count synthetic images

    @property
    def known(self) -> list[str]:
        of_uses = [f"{use}/{metric}" for use, metrics in self.uses.items() for metric in metrics or ()]
        return [*of_uses, *self.measures, *OF_THE_SET]


def problems(params: Params, sizes: Sizes, sites: list[str] | None) -> list[Problem]:
    """Return the problems; `sites`: their names, None if they are unknown."""
    numbers = Numbers(lacking=dict.fromkeys(mends.MEANING, why) if (why := mends.lacks(params.image)) else {})
    found = [*_uses(params, sizes, numbers), *_features(params), *_measures(params, numbers)]
    for key, lines in {"require": params.gates.require, "warn": params.gates.warn}.items():
        for text in lines:
            if said := _gate(parse(text), numbers, sites, params.gates.by):
                found.append(Problem(f"gates.{key}", text, said))
    return found


def _uses(params: Params, sizes: Sizes, numbers: Numbers) -> Iterator[Problem]:
    for name, block in params.score.uses.items():
        key = f"score.uses.{name}"
        use, wrong = built(key, "use", block, params.image.context())
        numbers.uses[name] = None if wrong else [*WORTH, "over_public", *_of_groups(use), *use.metrics]
        numbers.lacking |= {} if params.score.public else {f"{name}/over_public": "needs a source as score.public"}
        numbers.built += [] if wrong else [use]
        yield from wrong or _use(key, block, use, params.image, sizes)


def _of_groups(use: Use) -> list[str]:
    return [calibration.WORST] if "ece" in use.metrics else []


def _use(key: str, block: Block, use: Use, image: Image, sizes: Sizes) -> Iterator[Problem]:
    if isinstance(use, Classification) and len(image.labels) < 2:
        said = f"classification needs two labels at least, and image.labels is {image.labels}"
        yield Problem(key, block.class_path, f"{said}; name another, or take this use out of score.uses")
    if len(use.metrics) > MOST_NUMBERS:
        said = f"has {len(use.metrics)} metrics with those of each label, and no answer of more than {MOST_NUMBERS}"
        yield Problem(key, block.class_path, f"{said} leaves a hospital; name fewer image.labels")
    if error := sizes.error(key, network(block, image)):
        yield from refused(key, block, error)


def network(block: Block, image: Image) -> Trial:
    """Return a trial that builds the network of a use for a size and applies it to two images."""

    def trial(size: Size) -> None:
        use: Use = block.build(**image.context() | {"size": size})
        use.network(0)(torch.zeros(2, len(image.originals), *size))

    return trial


def _features(params: Params) -> Iterator[Problem]:
    block, uses = params.score.features, params.score.uses
    extractor, wrong = built("score.features", "features", block, params.image.context())
    yield from wrong
    use = getattr(extractor, "use", None)
    if use is not None and use not in uses:
        said = f"features are of the network of a use, and score.uses has {', '.join(uses) or 'none'}{near(use, uses)}"
        yield Problem("score.features.args.use", use, said)


def _measures(params: Params, numbers: Numbers) -> Iterator[Problem]:
    for name, block in params.score.measures.items():
        key = f"score.measures.{name}"
        measure, wrong = built(key, "measure", block, params.image.context())
        yield from wrong
        if measure is None:
            numbers.whole = False
            continue
        about = list(measure.about)
        # an invalid use may be the one that the measure needs
        lacks = {} if None in numbers.uses.values() else measure.lacks(params.image, numbers.built)
        if set(about) <= set(lacks):
            yield Problem(key, block.class_path, f"gives no number: it {lacks[about[0]]}")
        if twice := [number for number in about if number in numbers.measures]:
            said = f"another measure gives {', '.join(twice)}, too, and one of both would be lost; keep one"
            yield Problem(key, block.class_path, said)
        numbers.measures += [number for number in about if number not in twice]
        numbers.lacking |= lacks
        numbers.pooled |= measure.pooled
        numbers.counts |= {number for number, of in measure.about.items() if of.kind == "count"}


def _gate(gate: Gate, numbers: Numbers, sites: list[str] | None, by: str) -> str:
    """Return why a gate could never hold, "" if it can. `by`: what it holds by if it does not say so."""
    use, _, metric = gate.name.partition("/")
    if meant(gate.name, numbers.known) not in numbers.known:
        unknown = metric and use in numbers.uses and numbers.uses[use] is None
        if unknown or not (metric or numbers.whole):
            return ""  # its block is invalid, and its numbers are unknown
        return f"there is no number {gate.name!r}; {_known(numbers, use, metric)}{near(gate.name, numbers.known)}"
    if gate.name in numbers.lacking:
        return f"{gate.name} {numbers.lacking[gate.name]}"
    if gate.of_floor and gate.name not in numbers.measures:
        return f"{gate.name} has no floor, which numbers of measures alone have; give a number"
    if gate.name in numbers.counts and (gate.by or by) == "bound" and not gate.of_floor and gate.number < NONE_SEEN:
        said = f"where none is counted, another set of as many images may have up to {NONE_SEEN:.1f}"
        alone = f"`{gate.text.removesuffix(' by bound')} by point`"
        return f"can never hold by its bound: {said}; write {alone}, which is about this very set, or a limit of 4"
    return _site(gate, numbers, sites) if gate.site else ""


def _site(gate: Gate, numbers: Numbers, sites: list[str] | None) -> str:
    """Return what is wrong with the site of a gate, "" if it is right."""
    metric, places = gate.name.partition("/")[2], [*(sites or []), WORST]
    if gate.name in (*OF_THE_SET, *numbers.pooled) or (metric in WORTH and metric not in BY_SITE):
        return f"{gate.name} is one number for all sites; take @{gate.site} out"
    if sites is not None and find(gate.site, places) is None:
        return f"there is no site {gate.site!r}; known are {', '.join(places)}{near(gate.site, places)}"
    return ""


def _known(numbers: Numbers, use: str, metric: str) -> str:
    if metric and (of_use := numbers.uses.get(use)):
        return f"{use} has {', '.join(of_use)}"
    if metric:
        return f"score.uses has {', '.join(numbers.uses) or 'none'}"
    return f"score.measures gives {', '.join(numbers.measures) or 'none'}, and there are {', '.join(OF_THE_SET)}"
