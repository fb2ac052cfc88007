"""Validation of params.yaml in one pass, before any image is read: all problems are listed at once.

Every block is built once, networks on torch's meta device for the size of the images. The contents of the images are
checked by ingest and validation, and the batch size after validation, when the images are counted (`of_counts`).
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

__all__ = ["Problem", "check", "listed", "load_or_list", "of_counts", "of_file", "of_sites_that_train", "problems"]

# The blocks of the file and their kinds; * stands for names that the user chooses.
PLACES = {
    "source": "source",
    "image.derived.*.operator": "operator",
    "models.*.family": "family",
    "models.*.algorithm": "algorithm",
    "models.*.privacy": "privacy",
    "models.*.encryption": "encryption",
    "models.*.robust": "robust",
    "models.*.compression.up": "compression",
    "models.*.compression.down": "compression",
    "models.*.pretrain.source": "source",
    "sample.given": "source",
    "sample.exporters.*": "exporter",
    "score.uses.*": "use",
    "score.public": "source",
    "score.features": "features",
    "score.measures.*": "measure",
}


def problems(params: Params, source: bool = True, given: bool = True) -> list[Problem]:
    """Return all problems that can be found without reading an image, in the order of the file.

    `source`: whether the source's files should be on this machine. In a federation they are at the hospitals, which
    check them, and the sites are those that are connected. `given`: whether the images of `sample.given` and
    `score.public`, and the weights of `models.*.start`, should be on this machine, as they are at the centre.
    """
    from fedsynth.checks import of_models, of_robust, of_sample, of_score, of_sites, of_start
    from fedsynth.checks.sizes import Sizes

    sizes = Sizes(params.image.size)
    found, hospitals = of_sites.problems(params, source)
    found += of_models.problems(params, sizes)
    found += of_start.problems(params) if given else []
    found += of_robust.problems(params, hospitals.sites)
    found += of_sample.problems(params, sizes, hospitals, given)
    publics = {
        f"models.{name}.pretrain.source": of.pretrain and of.pretrain.source for name, of in params.models.items()
    }
    for key, public in ({"score.public": params.score.public} | publics).items():
        found += of_sites.at_centre(key, public, params, hospitals, given) if public else []
    found += of_score.problems(params, sizes, hospitals.sites)
    return _in_order([*found, *sizes.problems()])


def _in_order(found: list[Problem]) -> list[Problem]:
    order = ["params.yaml", *Params.model_fields]
    return sorted(found, key=lambda p: order.index(top) if (top := p.key.split(".")[0]) in order else 0)


def of_file(path: Path, source: bool = True, given: bool = True) -> tuple[Params | None, list[Problem]]:
    """Return the params of a file, None if they are invalid, and all problems. Raises ParamsError if it is no YAML."""
    content = raw(Path(path))
    if not isinstance(content, dict):
        said = "is empty, or no table of keys; begin with the params.yaml of the project"
        return None, [Problem("params.yaml", None, said)]
    params, found = mended(content)
    more = problems(params, source, given) if params else []
    if not found:
        return params, more
    # problems of the repair: a table that lacks the invalid value
    more = [p for p in more if not any(of.key.startswith(f"{p.key}.") for of in found)]
    alone = [p for p in _alone(content) if p not in more]
    found = [p for p in found if not any(p.key == of.key for of in alone)]  # `alone` also names the nearest class
    return None, _in_order([*found, *more, *alone])


def _alone(raw: Any) -> Iterator[Problem]:
    """Yield the problems with the classes and arguments of the file's blocks, also of those in invalid tables."""
    for at, kind in PLACES.items():
        for key, block in _blocks(raw, at.split("."), ""):
            path, args = block.get("class_path"), block.get("args") or {}
            if isinstance(path, str) and isinstance(args, dict):
                yield from sound(key, kind, Block.model_construct(class_path=path, args=args), _context(kind))


def _context(kind: str) -> Context:
    """Return what the constructors of a kind may ask for by name; the values do not matter."""
    image = Image(size=(32, 32), channels={"image": "image"}, labels=["label"])
    if kind == "source":
        return {"image": image, "seed": 1}
    return image.context() if kind in ("family", "use", "features", "measure", "operator") else {}


def _blocks(at: Any, parts: list[str], key: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the keys and contents of the blocks at a place of PLACES, split into its parts."""
    if not isinstance(at, dict):
        return []
    if not parts:
        return [(key, at)]
    names = list(at) if parts[0] == "*" else [parts[0]]
    return [found for name in names for found in _blocks(at.get(name), parts[1:], f"{key}.{name}".lstrip("."))]


def load_or_list(path: Path, source: bool = True) -> Params:
    """Return the params of a file. Raises ParamsError with all problems if a key or value is invalid.

    Unlike `check` it does not build the blocks of a valid file, because that imports torch.
    """
    try:
        return load(path)
    except ParamsError:
        check(path, source, given=source)
        raise


def check(path: Path, source: bool = True, given: bool = True) -> Params:
    """Return the params of a file. Raises ParamsError with all problems, one per line."""
    params, found = of_file(path, source, given)
    if params is None or found:
        raise ParamsError(listed(path, found))
    return params


def listed(path: Path, found: list[Problem]) -> str:
    """Return the problems as text: a line with their number, then one line each."""
    return "\n".join([f"{Path(path).name} has {len(found)} problem{'s' * (len(found) > 1)}:", *map(str, found)])


def of_sites_that_train(params: Params, model: str, sites: int) -> Iterator[Problem]:
    """Yield the problems of a model with the number of sites that passed validation and train."""
    from fedsynth.checks import of_robust

    yield from of_robust.enough(params, model, sites)


def of_counts(params: Params, model: str, images: dict[str, int]) -> list[Problem]:
    """Return the problems of a model with the numbers of training images; `images`: {site: number}."""
    batch, most = params.models[model].training.batch, max(images.values(), default=0)
    if batch <= most:
        return []
    there = ", ".join(f"{site} {n}" for site, n in images.items()) or "none"
    said = f"no site has so many training images ({there}), so that no batch would be full; at most {most}"
    return [Problem(f"models.{model}.training.batch", batch, said)]
