"""`fedsynth init`: a folder with a params.yaml and all that belongs to it, as a git and DVC repository."""

from __future__ import annotations

import json
import os
from pathlib import Path

from fedsynth.study import git, layout
from fedsynth.study.examples import Example
from fedsynth.study.layout import StudyError


def create(folder: Path, name: str, params: str, about: str) -> str:
    """Make a study in a folder that is new or empty. Returns what was done about git, in a sentence.

    `name`: of the study, in MLflow and Prefect. `params`: the text of params.yaml. `about`: a sentence on the study for
    its README. Raises StudyError where the name is none, or the folder holds something, and leaves it as it is.
    """
    if not layout.NAME.fullmatch(name):
        raise StudyError(
            f"{name!r} cannot name a study: letters (without accents), digits, _ and -, 80 at most; say another with"
            " --name NAME"
        )
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if folder.exists() and (there or not folder.is_dir()):
        said = f"holds {', '.join(there[:3])}{' …' if len(there) > 3 else ''}" if there else "is a file"
        raise StudyError(f"{folder} {said}; a study begins in a folder that is new or empty")
    readme = (layout.TEMPLATES / "README.md").read_text(encoding="utf-8")
    texts = {place: layout.template(place, name) for place in layout.FILES}
    texts |= {"params.yaml": params, "README.md": readme.format(name=name, about=about)}
    try:
        for place, text in texts.items():
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        layout.remember(folder, name)
    except OSError as error:
        raise StudyError(f"{folder} cannot be written: {error}") from error
    return git.begin(folder)


def of_example(example: Example, data: Path | None) -> str:
    """Return the text of params.yaml for an example, whose images lie in `data`.

    Without `data` its variable stays in the text, and is to be set in the environment. Raises StudyError where the
    folder is not there, or the example has its own images.
    """
    if data is None:
        return example.text
    if not example.variables:
        raise StudyError(f"the example {example.name} makes its own images: leave --data out")
    if not data.exists():
        raise StudyError(f"--data {data} is not there")
    text, folder = example.text, json.dumps(data.resolve().as_posix(), ensure_ascii=False)  # as YAML quotes it
    for variable in example.variables:
        text = text.replace(f"${{{variable}}}", folder)
    return text


def unset(example: Example) -> list[str]:
    """Return the environment variables that an example's paths need and that are not set."""
    return [name for name in example.variables if not os.environ.get(name)]
