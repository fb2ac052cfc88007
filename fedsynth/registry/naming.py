"""What a run in MLflow is called: its study, its model, and what params.yaml says otherwise than the run before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fedsynth.params import Centre, Params
from fedsynth.registry.tracked_values import flatten

SHARED = ("seed", "image.size", "sample", "score")  # keys outside of `models` that decide what a model's numbers are
SILENT = ("args", "class_path", "training")  # parts of a key that say nothing in a name
MOST, LONGEST = 4, 40  # changes in a name, and characters of a value
NOTHING = "null"


def of_pipeline(params: Params) -> dict[str, str]:
    """Return the keys of params.yaml with their values, for the run of a pipeline."""
    return flatten(params.model_dump(mode="json", exclude=set(Centre.model_fields)))


def of_model(params: Params, model: str) -> dict[str, str]:
    """Return the keys that a model's numbers hang on; its own without `models.<model>`, so that models compare."""
    known, own = of_pipeline(params), f"models.{model}."
    shared = {key: value for key, value in known.items() if _below(key, SHARED)}
    return {key.removeprefix(own): value for key, value in known.items() if key.startswith(own)} | shared


def change(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return what differs in short, "rounds=20, privacy=DPSGD"; "" where nothing does."""
    new, gone = _models(now) - _models(before), _models(before) - _models(now)
    differ = [
        key
        for key, value in now.items()
        if not _models([key]) & new and (before.get(key, NOTHING) != value or _was_more(key, before, now))
    ]
    words = [*(f"with {of}" for of in sorted(new)), *(f"without {of}" for of in sorted(gone))]
    words += [f"{_short(key)}={_value(now[key])}" for key in differ]
    return ", ".join([*words[:MOST], *([f"+{len(words) - MOST} more"] if len(words) > MOST else [])])


def _was_more(key: str, before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether a block or table that was there is gone: `privacy` is null now."""
    return now[key] == NOTHING and any(of.startswith(f"{key}.") for of in before)


def _models(keys: Iterable[str]) -> set[str]:
    return {key.split(".")[1] for key in keys if key.startswith("models.")}


def _below(key: str, places: Iterable[str]) -> bool:
    return any(f"{key}.".startswith(f"{place}.") for place in places)


def _short(key: str) -> str:
    """Return the two parts of a key that tell it: "vae.rounds", "segmentation.steps"."""
    parts = [part for part in key.removeprefix("models.").split(".") if part not in SILENT]
    return ".".join([parts[0], parts[-1]] if key.startswith("models.") and len(parts) > 1 else parts[-2:])


def _value(text: str) -> str:
    """Return a value in short: a class without its path, null as none."""
    if text.startswith("fedsynth."):
        text = text.rpartition(".")[2]
    text = "none" if text == NOTHING else text.replace(", ", ",")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
