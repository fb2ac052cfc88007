"""Validation of params.yaml in one pass, before any image is read: every block is built once, all problems come in one
list.

Networks are made on torch's meta device for the image's size: a size that they do not take is known before ingest.
What only the files can tell comes later: how many images there are (`of_counts`, after validation) and what is in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedsynth.checks.blocks import Context, sound
from fedsynth.checks.mending import mended
from fedsynth.params import Block, Image, Params, ParamsError, load
from fedsynth.params.problems import Problem
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


def problems(params: Params, source: bool = True, given: bool = True) -> list[Problem]:
    """All that can be known without reading an image, in the order of the file.

    `source`: whether the source's files should be on this machine. In a federation they are in the hospitals, which
    check their own, and the sites are those that are connected. `given`: whether the images of `sample.given` should
    be: they are at the centre.
    """
    from fedsynth.checks import of_models, of_sample, of_score, of_sites
    from fedsynth.checks.sizes import Sizes

    sizes = Sizes(params.image.size)
    found, hospitals = of_sites.problems(params, source)
    found += of_models.problems(params, sizes)
    found += of_sample.problems(params, sizes, hospitals, given)
    found += of_score.problems(params, sizes, hospitals.sites)
    return _in_order([*found, *sizes.problems()])


def _in_order(found: list[Problem]) -> list[Problem]:
    order = ["params.yaml", *Params.model_fields]
    return sorted(found, key=lambda p: order.index(top) if (top := p.key.split(".")[0]) in order else 0)


def of_file(path: Path, source: bool = True, given: bool = True) -> tuple[Params | None, list[Problem]]:
    """Of a file: wrong keys and values, and what is wrong with the rest. Raises ParamsError where there is no YAML."""
    content = raw(Path(path))
    if not isinstance(content, dict):
        said = "is empty, or no table of keys; begin with the params.yaml of the project"
        return None, [Problem("params.yaml", None, said)]
    params, found = mended(content)
    more = problems(params, source, given) if params else []
    if not found:
        return params, more
    # of a table that lacks what was taken out, the class of a block say
    more = [p for p in more if not any(of.key.startswith(f"{p.key}.") for of in found)]
    alone = [p for p in _alone(content) if p not in more]
    found = [p for p in found if not any(p.key == of.key for of in alone)]  # which tells the nearest class, too
    return None, _in_order([*found, *more, *alone])


def _alone(raw: Any) -> Iterator[Problem]:
    """What is wrong with the blocks of a file by themselves, whatever else is wrong in it: classes and arguments."""
    for at, kind in PLACES.items():
        for key, block in _blocks(raw, at.split("."), ""):
            path, args = block.get("class_path"), block.get("args") or {}
            if isinstance(path, str) and isinstance(args, dict):
                yield from sound(key, kind, Block.model_construct(class_path=path, args=args), _context(kind))


def _context(kind: str) -> Context:
    """What the constructors of a kind may ask for by name, with any values."""
    image = Image(size=(32, 32), channels={"image": "image"}, labels=["label"])
    if kind == "source":
        return {"image": image, "seed": 1}
    return image.context() if kind in ("family", "use", "features", "measure", "operator") else {}


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
        check(path, source, given=source)
        raise


def check(path: Path, source: bool = True, given: bool = True) -> Params:
    """The params of a file without a problem. Raises ParamsError with all that it has, one line each."""
    params, found = of_file(path, source, given)
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
