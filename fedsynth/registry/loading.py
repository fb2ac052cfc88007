"""The one way to a registered version's files: hashes first, then stale or not, then the installed package loads."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.registry import hashes, stale
from fedsynth.registry.promotion import Refused
from fedsynth.registry.versions import model_of, version_of
from fedsynth.settings import tracking_uri
from fedsynth.training import weights

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from fedsynth.registry.serving import Generator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Admitted:
    """A version that may be used.

    `folder`: a copy of its artifact that nobody else can change; `objections`: what speaks against it and was
    overruled.
    """

    title: str
    folder: Path
    objections: list[str]
    kept: dict[str, Any] | None  # hashes.json; None for a version without

    @property
    def data(self) -> Path:
        return hashes.data_of(self.folder)

    @property
    def about(self) -> dict[str, Any]:
        """Its model.json."""
        return json.loads((self.data / weights.ABOUT).read_text(encoding="utf-8"))


@contextmanager
def admitted(root: Path, version: ModelVersion, although: str = "") -> Iterator[Admitted]:
    """Copy a version's artifact, hold it against its hashes, and look whether it is stale.

    Raises Swapped, whatever `although` says, where the artifact is not what was registered; Refused where it is stale
    or has no hashes, unless `although` says why it is used nevertheless.
    """
    stale.mark(root)
    model = model_of(version.name)
    version = version_of(root, model, int(version.version))  # with its mark
    title = f"{version.name} version {version.version}"
    with tempfile.TemporaryDirectory(prefix="fedsynth-") as private:
        folder, kept, objections = _copied(root, title, version, Path(private)), None, []
        try:
            kept = hashes.check(title, folder, version.tags)
        except hashes.Unhashed as error:
            objections.append(f"{error}; `fedsynth run` registers the weights of models/{model} with hashes")
        if said := stale.said(title, version.tags):
            objections.append(f"{said}; {stale.proposal(model)}")
        if objections and not although.strip():
            raise Refused(f"{'; '.join(objections)}; to use it nevertheless say why: --although TEXT")
        for objection in objections:
            log.warning("%s; used although: %s", objection, although)
        yield Admitted(title, folder, objections, kept)


def load(root: Path, model: str, number: int | None = None, although: str = "") -> Generator:
    """Load a version (default: the newest) by the installed package. Raises what `admitted` raises.

    No code of the artifact is run, and nothing is unpickled: weights are safetensors, and classes come by their names.
    """
    with admitted(root, version_of(root, model, number), although) as found:
        return generator(found)


def generator(found: Admitted) -> Generator:
    """Build the model of an admitted version; warn where the installed code is not that of its registration."""
    from fedsynth.registry.serving import Generator

    if found.kept:
        hashes.warn_of_drift(found.title, found.kept, found.about)
    return Generator(found.data)


def _copied(root: Path, title: str, version: ModelVersion, private: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        found = download_artifacts(version.source, dst_path=str(private), tracking_uri=tracking_uri(root))
    except (MlflowException, OSError) as error:
        raise hashes.Swapped(f"{title}: its artifact cannot be read ({error}); {hashes.MEND}") from error
    return Path(found)
