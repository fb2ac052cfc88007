"""What a person names to draw from: `champion`, a model's name, or a folder or archive."""

from __future__ import annotations

import re
from pathlib import Path

from fedsynth.generation.exported import WANTED, of_path
from fedsynth.generation.registered import of_registry
from fedsynth.generation.released import ModelError, Released
from fedsynth.registry.place import there


def released(
    model: str | Path, version: int | None = None, study: str | Path = ".", although: str = "", by: str = ""
) -> Released:
    """Return the model that a person has named.

    A name without / or . is looked up in the registry of the study, if there is one; all else is a path. Write
    ./vae for a folder that has the name of a model.
    """
    root, path = Path(study).resolve(), Path(model)
    if re.fullmatch("[A-Za-z0-9_]+", str(model)) and (there(root) or not path.exists()):
        if not there(root):
            raise ModelError(
                f"there is no registry in {root} (`fedsynth run` in a study's folder makes one, or set"
                f" MLFLOW_TRACKING_URI), and no folder or archive {model}; {WANTED}"
            )
        return of_registry(root, str(model), version, although, by)
    if not path.exists():
        raise ModelError(f"{model} is not there; {WANTED}")
    if version is not None:
        raise ModelError(f"--version {version} goes with a model's name; {model} is one version")
    return of_path(path, although)
