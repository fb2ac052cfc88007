"""Compares what a job would compute with the studies that the hospital has agreed to, key by key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fedsynth.hospital.policy.model import PolicyError, Study
from fedsynth.params import Centre, Params
from fedsynth.params.near import near

# where images come from is each hospital's own, and no result hangs on the centre's
LEFT_OUT = ("source", *Centre.model_fields)


def agreed(params: Params) -> dict[str, Any]:
    """Return the parts of params.yaml that a policy holds, defaults included.

    That is all but where images come from, and keys of the centre's own, as the name that it has for the study.
    """
    raw = params.model_dump(mode="json", exclude=set(Centre.model_fields))
    return raw | {"source": {"class_path": params.source.class_path, "args": {}}}


def of(studies: dict[str, Study], asked: dict[str, Any], name: str = "", model: dict[str, Any] | None = None) -> str:
    """Return the name of the study that a job belongs to.

    `asked`: the job's params without models; `model`: of the job, under `models.<name>`, None where it has none. Raises
    PolicyError where it is as none of them: the first key that differs from the study that it is nearest to.
    """
    nearest: list[PolicyError] = []
    for key, study in studies.items():
        found = list(_problems(f"studies.{key}.params", study, asked, name, model))
        if not found:
            return key
        nearest = min(nearest or found, found, key=len)
    raise nearest[0]


def _problems(key: str, study: Study, asked: dict[str, Any], name: str, model: dict[str, Any] | None,
              ) -> Iterator[PolicyError]:  # fmt: skip
    """Yield the keys of a job that are not as agreed, as errors. `key`: of the study's params in the policy."""
    if study.params is None:
        return
    ours = agreed(Params.model_validate(study.params))
    if model is not None and name not in ours["models"]:
        there = list(ours["models"])
        said = f"the model {name} is not agreed; there are {', '.join(there)}{near(name, there)}"
        yield PolicyError(f"{key}.models", said)
        model = None
    known = {key: value for key, value in ours.items() if key not in (*LEFT_OUT, "models")}
    theirs = {key: value for key, value in asked.items() if key not in (*LEFT_OUT, "models")}
    if model is not None:
        known |= {"models": {name: ours["models"][name]}}
        theirs |= {"models": {name: _like(model, ours["models"][name])}}
    free = [_pattern(key) for key in study.may_differ]
    for part, value, other in _differences(known, theirs, ""):
        if not any(pattern.match(f"{part}.") for pattern in free):
            said = f"the job says {_short(value)}, agreed is {_short(other)}; ask the centre, or agree to it here"
            yield PolicyError(f"{key}.{part}", said)


def _like(model: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Return those parts of the model that a policy knows: a job about a finished model names only some."""
    return {key: model.get(key, value) for key, value in ours.items()}


def _pattern(key: str) -> re.Pattern[str]:
    """Return the keys that are meant: "gates" is all below it, * is any text within one part."""
    return re.compile(re.escape(key).replace(r"\*", r"[^.]*") + r"\.")


def _differences(ours: Any, theirs: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, their value, our value) where two tables differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in {**ours, **theirs}:
            yield from _differences(ours.get(name), theirs.get(name), f"{key}.{name}" if key else str(name))
    elif ours != theirs or isinstance(ours, bool) is not isinstance(theirs, bool):
        yield key, theirs, ours


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
