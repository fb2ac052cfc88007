"""Pages and pictures of earlier pipeline runs in MLflow, which may go: numbers, settings and models stay."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from fedsynth.registry import runs
from fedsynth.registry.place import database, there
from fedsynth.registry.versions import client_of

MOST = 10_000  # runs that are looked at


def artifacts(root: Path, keep: int) -> list[Path]:
    """Return the folders of artifacts of a study's pipeline runs but the newest `keep`, and of the runs below them.

    A registered model has a folder of its own, which is none of these. Empty for a tracking server, whose artifacts its
    administrator keeps.
    """
    if database(root) is None or not there(root):
        return []
    client = client_of(root)
    place = runs.experiment(client, root)
    found = client.search_runs([place], max_results=MOST, order_by=["attributes.start_time DESC"])
    newest = [run.info.run_id for run in found if run.data.tags.get(runs.KIND) == runs.PIPELINE][:keep]
    above = {run.info.run_id: run.data.tags.get(runs.PARENT) for run in found}
    used = [version.source or "" for version in client.search_model_versions()]

    def top(run_id: str) -> str:
        while parent := above.get(run_id):
            run_id = parent
        return run_id

    old = [run.info.artifact_uri for run in found if newest and top(run.info.run_id) not in newest]
    paths = [Path(unquote(urlsplit(uri).path)) for uri in old if not any(of.startswith(f"{uri}/") for of in used)]
    return [path for path in paths if path.is_dir()]
