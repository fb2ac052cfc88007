"""Validation of params.yaml in one pass, before any image is read: every block is built once, all problems come in one
list.

Networks are made on torch's meta device for the image's size: a size that they do not take is known before ingest.
What only the files can tell comes later: how many images there are (`of_counts`, after validation) and what is in them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedsynth.checks.classes import find
from fedsynth.checks.mending import mended
from fedsynth.params import Params, ParamsError, load
from fedsynth.params.problems import Problem, of_error
from fedsynth.params.reading import raw

__all__ = ["Problem", "check", "listed", "load_or_list", "of_counts", "of_file", "problems"]

# Where blocks stand in the file, and of which kind they are; * is a name that a person chooses.
PLACES = {
    "source": "source",
    "image.derived.*.operator": "operator",
    "models.*.family": "family",
    "models.*.algorithm": "algorithm",
    "models.*.privacy": "privacy",
    "models.*.encryption": "encryption",
    "models.*.compression.up": "compression",
    "models.*.compression.down": "compression",
    "sample.given": "source",
    "sample.exporters.*": "exporter",
    "score.uses.*": "use",
    "score.features": "features",
    "score.measures.*": "measure",
}


def problems(params: Params, source: bool = True) -> list[Problem]:
    """All that can be known without reading an image, in the order of the file.

    `source`: whether the source's files should be on this machine. In a federation they are in the hospitals, which
    look at their own, and the sites are those that are connected.
    """
    from fedsynth.checks import of_models, of_sample, of_score, of_sites
    from fedsynth.checks.sizes import Sizes

    sizes = Sizes(params.image.size)
    found, sites = of_sites.problems(params, source)
    found += of_models.problems(params, sizes)
    found += of_sample.problems(params, sizes, sites or [], source)
    found += of_score.problems(params, sizes, sites)
    return _in_order([*found, *sizes.problems()])


def _in_order(found: list[Problem]) -> list[Problem]:
    order = ["params.yaml", *Params.model_fields]
    return sorted(found, key=lambda p: order.index(top) if (top := p.key.split(".")[0]) in order else 0)


def of_file(path: Path, source: bool = True) -> tuple[Params | None, list[Problem]]:
    """Of a file: wrong keys and values, and what is wrong with the rest. Raises ParamsError where there is no YAML."""
    try:
        params = load(path)
    except ParamsError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        return None, _invalid(raw(Path(path)), error.__cause__, source)
    return params, problems(params, source)


def _invalid(raw: Any, error: ValidationError, source: bool) -> list[Problem]:
    """What pydantic says and what is wrong in the rest; where that alone is no file, in the names of classes."""
    if not isinstance(raw, dict):
        said = "is empty, or no table of keys; begin with the params.yaml of the project"
        return [Problem("params.yaml", None, said)]
    found = of_error(raw, error, Params)
    params = mended(raw)
    more = problems(params, source) if params else []
    said = {problem.key for problem in more}
    more += [problem for problem in _classes(raw) if not any(problem.key.startswith(key) for key in said)]
    follow = [p for p in more if any(of.key.startswith(f"{p.key}.") for of in found)]  # from what the rest lacks
    return _in_order(found + [p for p in more if p not in follow])


def _classes(raw: Any) -> list[Problem]:
    """Classes that the file names and that are not there."""
    blocks = [(key, kind, block) for at, kind in PLACES.items() for key, block in _blocks(raw, at.split("."), "")]
    named = [(key, kind, path) for key, kind, block in blocks if isinstance(path := block.get("class_path"), str)]
    return [Problem(f"{key}.class_path", path, said) for key, kind, path in named if (said := find(kind, path)[1])]


def _blocks(at: Any, parts: list[str], key: str) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(at, dict):
        return []
    if not parts:
        return [(key, at)]
    names = list(at) if parts[0] == "*" else [parts[0]]
    return [found for name in names for found in _blocks(at.get(name), parts[1:], f"{key}.{name}".lstrip("."))]


def load_or_list(path: Path, source: bool = True) -> Params:
    """The params of a file as `load` gives them. Where keys or values are wrong, all else that is wrong is said, too.

    Raises ParamsError. What is wrong in blocks alone is not looked for: that imports torch (`check`).
    """
    try:
        return load(path)
    except ParamsError:
        check(path, source)
        raise


def check(path: Path, source: bool = True) -> Params:
    """The params of a file without a problem. Raises ParamsError with all that it has, one line each."""
    params, found = of_file(path, source)
    if params is None or found:
        raise ParamsError(listed(path, found))
    return params


def listed(path: Path, found: list[Problem]) -> str:
    """A line for each problem, under one that counts them."""
    return "\n".join([f"{Path(path).name} has {len(found)} problem{'s' * (len(found) > 1)}:", *map(str, found)])


def of_counts(params: Params, model: str, images: dict[str, int]) -> list[Problem]:
    """What is known of a model once its training images are counted, `images` by site."""
    batch, most = params.models[model].training.batch, max(images.values(), default=0)
    if batch <= most:
        return []
    there = ", ".join(f"{site} {n}" for site, n in images.items()) or "none"
    said = f"no site has so many training images ({there}), so that no batch would be full; at most {most}"
    return [Problem(f"models.{model}.training.batch", batch, said)]
