"""The centre's half: train what may be trained here, send it with the synthetic set, and write the sites' answers."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from fedsynth.data import outputs
from fedsynth.data.dataset import ImageSet
from fedsynth.params import Params
from fedsynth.settings import Settings
from fedsynth.stages import score
from fedsynth.training import weights
from fedsynth.worth import use_networks
from nvflare_jobs.centre import program, rows
from nvflare_jobs.centre.answers import Answers

Arrays = dict[str, np.ndarray]


def stage(params: Params, settings: Settings, name: str) -> None:
    """Write reports/score/<name>.json.

    It holds the rows `synthetic` and `augmented` on each site's real test images, and every measure of the set.
    """
    if name not in params.models:
        raise program.StageError(f"params.yaml has no models.{name}; it has {', '.join(params.models)}")
    started, root = time.monotonic(), settings.root
    synthetic, folder = ImageSet.load(root / "data" / "synthetic" / name), root / "models" / name
    about, references = (
        outputs.read(folder / weights.ABOUT, f"train@{name}"),
        weights.load(root / "data" / "reference" / use_networks.FILE),
    )
    centre_seen = score.seen(params, synthetic, use_networks.of_row(references, "federated"), settings.extractors)
    fitted = use_networks.to_arrays(score.fit_synthetic(params, synthetic), "synthetic") | references
    payload = {f"net/{key}": a for key, a in fitted.items()}
    payload |= {f"model/{key}": a for key, a in weights.load(folder / weights.FILE).items()}
    payload |= {"set/images": np.asarray(synthetic.images), "set/labels": synthetic.labels(params.image)}
    trains_only = [site for site in program.validated(root)["used"] if params.split.only(site) == "train"]

    def combine(found: Answers) -> dict[str, Any]:
        answers = {site: of["answer"] for site, of in found.items() if "answer" in of}
        left_out = {site: of["failed"] for site, of in found.items() if "failed" in of}
        measured = {site: answer["measures"] for site, answer in answers.items()}
        return {
            "spread": [of for answer in answers.values() for of in answer["spread"]],
            "calibration": [of for answer in answers.values() for of in answer.get("calibration", [])],
            "measures": score.combined(params, centre_seen, measured, left_out, trains_only),
            "extractor": centre_seen.extractor.title,
            "weights_sha256": about["weights_sha256"],
        }

    rows.rows(params, settings, "score", name, payload, {"model": told(params, about)}, started, combine)


def told(params: Params, about: dict[str, Any]) -> dict[str, Any]:
    """Return what sites are told of a model. `about`: its model.json, whose seed is that of the training.

    `seed` is that of params.yaml, which a policy may hold: None where it is the study's.
    """
    known = {key: about[key] for key in ("name", "family", "algorithm", "training", "mixture") if key in about}
    return known | {"seed": params.models[about["name"]].seed}


if __name__ == "__main__":
    program.main(lambda params, settings: stage(params, settings, sys.argv[1]))
