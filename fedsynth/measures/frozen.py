"""FID, KID and PRDC in the space of the frozen extractor, which is the same in every run and at every site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from fedsynth.measures import About, Answer, Measure, MeasureInputs, Moments, Value
from fedsynth.measures.fid import FID
from fedsynth.measures.kid import KID
from fedsynth.measures.prdc import PRDC

START = "frozen_"  # of the numbers' names


class Frozen(Measure):
    """The numbers of FID, KID and PRDC, named `frozen_...`, in the features of fedsynth/features/frozen.py.

    Those without this name are in the space of `score.features`, which another run or study does not share.
    `features`: dimensions of the space; `k`: as of PRDC. Raises ValueError if one is below 1.
    """

    pooled = frozenset({f"{START}pooled_fid"})
    independent = False

    def __init__(self, features: int = 8, k: int = 5):
        if features < 1:
            raise ValueError(f"features must be 1 or more, not {features}")
        self.features, self.k = features, k
        self.measures: tuple[Measure, ...] = (FID(), KID(), PRDC(k))

    @cached_property
    def about(self) -> Mapping[str, About]:  # type: ignore[override]
        said = " In the features of a network that was trained on procedural images alone and is the same everywhere."
        return {
            f"{START}{name}": replace(of, title=f"{of.title}, frozen features", text=of.text + said)
            for measure in self.measures
            for name, of in measure.about.items()
        }

    def at_site(self, seen: MeasureInputs) -> Answer:
        inside, values, moments = self.inside(seen), dict[str, Value](), dict[str, Moments]()
        for measure in self.measures:
            answer = measure.at_site(inside)
            values |= {f"{START}{name}": value for name, value in answer.values.items()}
            moments |= answer.moments  # of FID alone
        return Answer(values, moments)

    def combine(self, answers: dict[str, Answer], centre: MeasureInputs) -> dict[str, Value]:
        inside, found = self.inside(centre), dict[str, Value]()
        for measure in self.measures:
            own = {
                site: Answer({name: of.values[f"{START}{name}"] for name in measure.about}, of.moments)
                for site, of in answers.items()
            }
            combined = measure.combine(own, inside)
            found |= {f"{START}{name}": value for name, value in combined.items()}
        return found

    def inside(self, seen: MeasureInputs) -> MeasureInputs:
        """The same inputs with the frozen extractor."""
        from fedsynth.features.frozen import Frozen as Space

        return replace(seen, extractor=Space(self.features).open({}, Path()))
