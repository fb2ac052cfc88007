"""A released model: what images are drawn from, wherever it was found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.errors import UserError
from fedsynth.params import Image, Params, load
from fedsynth.params.names import IDENTIFIER

if TYPE_CHECKING:
    from fedsynth.families import Family

# what a model.json may name to be built: it may come from anybody
KINDS = {"family": "fedsynth.families.", "algorithm": "fedsynth.algorithms."}
ASKED = ("name", "training", "sites", "digests", "job_id", "fedsynth", "weights_sha256")


class ModelError(UserError):
    """No images can be drawn from what was named; the message says why, and what there is."""


@dataclass(frozen=True)
class Released:
    """A model that may be used.

    `about`: its model.json; `card`: the text of its model card; `verdict`: that of the study's gates, "" where it is
    not known; `held`: what was checked of the files before they were read; `objections`: what speaks against the model
    and was overruled; `number`: its version in the registry, if it comes from there; `study`: the params.yaml of its
    study, if that is at hand.
    """

    title: str
    about: dict[str, Any]
    family: Family
    card: str
    verdict: str
    held: list[str]
    objections: list[str]
    number: int | None = None
    study: Params | None = None

    @property
    def name(self) -> str:
        return str(self.about["name"])

    @property
    def image(self) -> Image:
        return Image(**self.about["image"])

    @property
    def version(self) -> str:
        """What the manifest of a set says of the weights, as the stage `sample` does."""
        return str(self.about["weights_sha256"])[:12]


def read_about(title: str, file: Path) -> dict[str, Any]:
    """Return the content of a model.json. Raises ModelError where it is not one."""
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        Image(**about["image"])
        strange = [kind for kind, of in KINDS.items() if not about[kind]["class_path"].startswith(of)]
        lacks = [key for key in ASKED if key not in about]
        if strange or lacks or not IDENTIFIER.fullmatch(about["name"]):
            raise ValueError(f"see {', '.join(strange or lacks or ['name'])}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{title}: {file.name} is none that this fedsynth reads ({error!r})") from error
    return about


def study_of(root: Path, about: dict[str, Any]) -> Params | None:
    """Return the params.yaml in `root` if it has this model with images of the same kind, else None."""
    if not (root / "params.yaml").is_file():
        return None
    params = load(root / "params.yaml")
    return params if about["name"] in params.models and params.image == Image(**about["image"]) else None
