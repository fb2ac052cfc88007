"""A folder or archive that holds a model, as a released model: models/<name>/ of a study, or a version's artifact."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.errors import UserError
from fedsynth.generation.released import ModelError, Released, read_about, study_of
from fedsynth.registry import hashes
from fedsynth.registry.promotion import Refused
from fedsynth.report.card import FILE, model_card
from fedsynth.training import weights
from fedsynth.worth import withdrawn
from fedsynth.worth.facts import facts

if TYPE_CHECKING:
    from fedsynth.families import Family

WANTED = (
    f"give the folder models/<name>/ of a study or the artifact of a registered version, with {weights.FILE} and"
    f" {weights.ABOUT}, as a folder, a zip or a tar file"
)
BROKEN = (OSError, EOFError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


def of_path(path: Path, although: str = "") -> Released:
    """Return the model in a folder or archive, once its files are held against the hashes that come with it.

    Raises Swapped where they differ, and Refused for an artifact without hashes and for a model whose study knows of
    data that a hospital has withdrawn, unless `although` says why it is used nevertheless.
    """
    title = f"the model in {path.name}"
    with _opened(path) as folder:
        data = _data(path, folder)
        about = read_about(title, data / weights.ABOUT)
        root = data.resolve().parents[1] if data == folder and data.resolve().parent.name == "models" else None
        held, objections = _held(title, folder, data, about)
        if root and (where := withdrawn.sites(about, withdrawn.known(root))):
            objections.append(f"{title} is {withdrawn.sentence(where)}")
        if objections and not although.strip():
            raise Refused(f"{'; '.join(objections)}; to use it nevertheless say why: --although TEXT")
        known = _facts(root, about) if root else None
        card = folder / FILE
        return Released(
            title=title,
            about=about,
            family=_family(data, about),
            card=card.read_text(encoding="utf-8") if card.is_file() else model_card(about, known),
            verdict=known["verdict"]["said"] if known else "",
            held=held,
            objections=[f"{said} (used although: {although})" for said in objections],
            study=study_of(root, about) if root else None,
        )


def _family(data: Path, about: dict[str, Any]) -> Family:
    return weights.build_family(about, weights.load(data / weights.FILE))


def _held(title: str, folder: Path, data: Path, about: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Hold the files against their hashes. Returns what was checked, and what speaks against the model."""
    found, objections = [], []
    if (folder / hashes.FILE).is_file():
        hashes.warn_of_drift(title, hashes.alone(title, folder), about)
        found.append(f"every file but the card against {hashes.FILE} beside them: whoever rewrote both is not found")
    elif data != folder:
        objections.append(f"{title} has no {hashes.FILE}, so nobody can tell whether it is what was registered")
    if weights.sha256(data / weights.FILE) != about["weights_sha256"]:
        raise hashes.Swapped(f"{title}: {weights.FILE} is not the file that {weights.ABOUT} names; take it anew")
    return [*found, f"the weights against the SHA-256 in {weights.ABOUT}"], objections


def _facts(root: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the study has computed of these weights, None where it was not scored."""
    params = study_of(root, about)
    if params is None or not (root / "reports" / "score" / f"{about['name']}.json").is_file():
        return None
    return facts(params, root, about["name"])


@contextmanager
def _opened(path: Path) -> Iterator[Path]:
    """Yield the folder, or that of the files in an archive."""
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="fedsynth-") as private:
        _unpack(path, Path(private))
        inside = list(Path(private).iterdir())
        yield inside[0] if len(inside) == 1 and inside[0].is_dir() else Path(private)


def _unpack(path: Path, to: Path) -> None:
    """Unpack what is no link and leads out of no folder."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as found:
                _fits(path, sum(of.file_size for of in found.infolist()), to)
                found.extractall(to)
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                _fits(path, sum(of.size for of in tar.getmembers()), to)
                tar.extractall(to, filter="data")
        else:
            raise ModelError(f"{path} is no folder, zip or tar file; {WANTED}")
    except BROKEN as error:
        raise ModelError(f"{path} cannot be unpacked ({error}); {WANTED}") from error


def _fits(path: Path, needed: int, to: Path) -> None:
    if needed > (free := shutil.disk_usage(to).free):
        raise UserError(f"{path} holds {needed / 1e9:.1f} GB, and {to} has room for {free / 1e9:.1f} GB")


def _data(path: Path, folder: Path) -> Path:
    """Return the folder with weights and model.json."""
    for place in (folder, *(folder / name for name in hashes.DATA)):
        if all((place / name).is_file() for name in (weights.FILE, weights.ABOUT)):
            return place
    raise ModelError(f"{path} holds no model; {WANTED}")
