"""`fedsynth init`: a folder with a params.yaml and all that belongs to it, as a git and DVC repository."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from fedsynth.params import Params
from fedsynth.params.study import STUDY_NAME
from fedsynth.study import git, layout
from fedsynth.study.examples import Example, example
from fedsynth.study.layout import StudyError

NAMED = re.compile(r"^study:.*$", re.MULTILINE)


@dataclass(frozen=True)
class Begun:
    """What a study begins with: the text of its `params`.yaml and of further `files`, and a sentence `about` it.

    `found`: what was found in images, for the terminal. `unset`: environment variables that are to be set. `attention`:
    what the person must know before the study is run.
    """

    params: str
    about: str
    files: dict[str, str] = field(default_factory=dict)
    found: str = ""
    unset: tuple[str, ...] = ()
    attention: str = ""


def from_example(name: str, data: Path | None) -> Begun:
    """Begin with an example, whose images lie in `data`; by default where its environment variable says.

    Raises StudyError where the example's source cannot use `data`.
    """
    chosen = example(name)
    text = of_example(chosen, data)
    if data is not None:
        _usable(text, data)
    unset = tuple(v for v in chosen.variables if not os.environ.get(v)) if data is None else ()
    return Begun(text, f"It began as the example `{name}`: {chosen.compares}.", unset=unset)


def from_images(source: Path, name: str) -> Begun:
    """Begin with images of one's own: look at them, and choose what fits. Raises FoundError where nothing can fit."""
    from fedsynth.study.found import Machine, look, written

    found = look(source)
    made = written(found, name, Machine.here())
    return Begun(made.params, f"It began with {found}.", made.files, found.text(), attention=made.attention)


def of_example(chosen: Example, data: Path | None) -> str:
    """Return the text of params.yaml for an example, whose images lie in `data`.

    Without `data` its variable stays in the text. Raises StudyError where the folder is not there, or the example makes
    its own images.
    """
    if data is None:
        return chosen.text
    if not chosen.variables:
        raise StudyError(f"the example {chosen.name} makes its own images: leave --data out")
    if not data.exists():
        raise StudyError(f"--data {data} is not there")
    text, folder = chosen.text, json.dumps(data.resolve().as_posix(), ensure_ascii=False)  # as YAML quotes it
    for variable in chosen.variables:
        text = text.replace(f"${{{variable}}}", folder)
    return text


def _usable(text: str, data: Path) -> None:
    """Raise StudyError where the source of these params finds no table or no images in `data`; no image is opened."""
    from fedsynth.checks import of_sites

    params = Params.model_validate(yaml.safe_load(text))
    _, problems = of_sites.opened("source", params.source, of_sites.context(params), look=True)
    if problems:
        raise StudyError(f"--data {data} does not hold the example's images: {'; '.join(map(str, problems))}")


def possible(folder: Path, name: str) -> None:
    """Raise StudyError where the name is none for a study, or the folder holds something."""
    if not STUDY_NAME.fullmatch(name):
        raise StudyError(
            f"{name!r} cannot name a study: letters (without accents), digits, _ and -, 80 at most; say another with"
            " --name NAME"
        )
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if folder.exists() and (there or not folder.is_dir()):
        said = f"holds {', '.join(there[:3])}{' …' if len(there) > 3 else ''}" if there else "is a file"
        raise StudyError(f"{folder} {said}; a study begins in a folder that is new or empty")


def create(folder: Path, name: str, begun: Begun) -> str:
    """Make the study `name` in a folder that is new or empty. Returns what was done about git, in a sentence.

    Raises StudyError where that is not possible, and leaves the folder as it is.
    """
    possible(folder, name)
    readme = (layout.TEMPLATES / "README.md").read_text(encoding="utf-8")
    texts = {place: layout.template(place, name) for place in layout.FILES} | begun.files
    texts |= {"params.yaml": _named(begun.params, name), "README.md": readme.format(name=name, about=begun.about)}
    try:
        for place, text in texts.items():
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        layout.remember(folder, name)
    except OSError as error:
        raise StudyError(f"{folder} cannot be written: {error}") from error
    return git.begin(folder)


def sound(folder: Path) -> None:
    """Raise UserError with all problems of a study's params.yaml."""
    from fedsynth import checks

    checks.load_or_list(folder / "params.yaml", source=True)


def _named(params: str, name: str) -> str:
    """Return the text with the study's name, which MLflow uses, in the place of the example's, or after its head."""
    line = f"study: {name}"
    if NAMED.search(params):
        return NAMED.sub(line, params, count=1)
    head = re.match(r"(#.*\n)*", params)
    end = head.end() if head else 0
    return f"{params[:end]}{line}  # names it in MLflow and Prefect\n{params[end:]}"
