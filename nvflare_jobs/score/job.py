"""At the centre: train what may be trained here, send it with the synthetic set, and write down the sites' rows."""

from __future__ import annotations

import sys
import time

import numpy as np

from fedsynth import outputs
from fedsynth.dataset import ImageSet
from fedsynth.params import Params
from fedsynth.settings import Settings
from fedsynth.stages import score
from nvflare_jobs import build, centre

Arrays = dict[str, np.ndarray]


def reference(params: Params, settings: Settings) -> None:
    """reports/reference.json: `local` at each site and, in simulation only, `pooled`, the one training that sees all sites' images."""
    started = time.monotonic()
    pooled = {}
    if settings.simulation:
        used = centre.validated(settings.root)["used"]
        pooled = score.fit_pooled(params, {site: ImageSet.load(settings.data / site) for site in used})
    _ask(params, settings, "reference", "", networks(pooled), started)


def model(params: Params, settings: Settings, name: str) -> None:
    """reports/score/<name>.json: `synthetic` and `augmented` on each site's real test images."""
    if name not in params.models:
        raise centre.StageError(f"params.yaml has no models.{name}; it has {', '.join(params.models)}")
    started = time.monotonic()
    synthetic = ImageSet.load(settings.root / "data" / "synthetic" / name)
    fitted: dict = {}
    for seed in params.score.seeds:
        for use, state in score.fit_synthetic(params, synthetic, seed).items():
            fitted.setdefault(use, {})[seed] = state
    payload = networks(fitted) | {"set/images": np.asarray(synthetic.images), "set/labels": synthetic.labels(params.image)}
    _ask(params, settings, "score", name, payload, started)


def networks(fitted: dict) -> Arrays:
    return {f"net/{name}": array for name, array in score.to_arrays(fitted).items()}


def _ask(params: Params, settings: Settings, kind: str, name: str, payload: Arrays, started: float) -> None:
    validation = centre.validated(settings.root)
    sites = validation["used"]
    stage = f"{kind}@{name}" if name else kind
    config = {"params": centre.public(params), "kind": kind, "name": name, "digests": {s: validation["sites"][s]["digest"] for s in sites}}
    folder = settings.root / ".work" / "jobs" / f"{stage.replace('@', '-')}-job"
    fitted = time.monotonic() - started
    job = build.ask(folder, "score", stage.replace("@", "_"), sites, params.consortium, config, payload, thin=settings.thin)
    found = centre.ask(stage, job, sites, settings)
    answers = {site: found[site]["answer"] for site in sites if "answer" in found[site]}
    rows = [row for answer in answers.values() for row in answer["rows"]]
    seconds = {"centre": round(fitted, 1)} | {site: answer["seconds"] for site, answer in answers.items()}
    out = settings.root / "reports" / ("reference.json" if kind == "reference" else f"score/{name}.json")
    left_out = {site: found[site]["failed"] for site in sites if site not in answers}
    outputs.write(out, {"rows": rows, "seconds": seconds, "left_out": left_out})
    print(f"{stage}: {len(rows)} rows from {len(answers)} sites", flush=True)


if __name__ == "__main__":
    centre.main(reference if sys.argv[1] == "reference" else lambda params, settings: model(params, settings, sys.argv[2]))
