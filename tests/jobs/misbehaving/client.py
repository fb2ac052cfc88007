"""A client that does what its job says at each site and round: answers, raises, dies hard, hangs, is slow, or sends
what cannot be used. A hostile one sends another such thing in each round, past all that FLARE's client looks at.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np
from nvflare.client import FLModel, send

from nvflare_jobs.site.site import Site, main

BAD = {
    "nan": lambda a: a * np.nan,
    "inf": lambda a: a * np.inf,
    "shape": lambda a: a[:1],
    "thousandfold": lambda a: 1000 * a,
    "ints": lambda a: a.astype(np.int64),
}

# What a hostile site changes of its message in each round; tests/jobs/test_federation.py has what is said of it.
HOSTILE = [
    lambda model: model.meta.update(weight="many"),
    lambda model: model.meta.update(weight=1e300),
    lambda model: model.meta.update(weight=True),
    lambda model: model.params.update(w=np.full((2, 3), np.inf, np.float32)),
    lambda model: model.params.update(w=np.full((2, 3), 3e38, np.float32)),
    lambda model: model.params.update(w=np.zeros((3, 2), np.float32)),
    lambda model: model.params.update(w=np.zeros((2, 3), complex)),
    lambda model: model.params.update(w=[[1.0, 2.0, 3.0], [4.0, 5.0, "6"]]),
    lambda model: model.params.update(v=np.zeros((2, 3), np.float32)),
    lambda model: model.metrics.update({"loss/net": "low"}),
    lambda model: setattr(model, "metrics", None),
    lambda model: model.meta.update(failed=["data"]),
    lambda model: setattr(model, "params", {}),
    lambda model: model.meta.update(weight=500.0),
]


def nested(levels: int) -> list:
    return [nested(levels - 1)] if levels else []


ANSWERS = {
    "nan": {"rows": [float("nan")]},
    "deep": nested(300),
    "array": {"rows": np.ones(3)},
    "bytes": b"not an answer",
    "another site's": {"digest": "a" * 64, "site": "north"},
    "none": None,
}


def first(site: Site) -> bool:
    """Whether this has not happened yet: the next process must not do it again."""
    mark = Path(site.config["marks"]) / f"died_{site.name}"
    found = mark.exists()
    mark.touch()
    return not found


def work(site: Site) -> None:
    for received in site.tasks():
        number = received.current_round
        how = site.config["how"].get(site.name, "fine")
        if number != site.config.get("at", 0) and not how.endswith("always"):
            how = "fine"
        difference = {name: np.ones_like(a) for name, a in received.params.items()}
        time.sleep(site.config.get("pause", 0))
        if how.startswith("slow"):
            time.sleep(site.config["slow_s"])
        elif how == "die" or (how == "die once" and first(site)):
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory ends
        elif how == "raise":
            raise RuntimeError("the disk of this site is full")
        elif how == "hang":
            time.sleep(3600)
        elif how == "keys":
            difference = {f"other.{name}": a for name, a in difference.items()}
        elif how in BAD:
            difference = {name: BAD[how](a) for name, a in difference.items()}
        honest = {"digest": "b" * 64} if "answers" in site.config else {"site": site.name}
        metrics = {"loss/net": float(len(site.name) + number), "weight": 1.0}
        model = FLModel(
            params=difference,
            params_type="DIFF",
            metrics=metrics,
            meta={"weight": 1.0, "answer": ANSWERS.get(site.config.get("answers", {}).get(site.name), honest)},
        )
        if how == "hostile always":
            HOSTILE[number](model)
        send(model)


if __name__ == "__main__":
    main(work, "look")  # the policy lets it in: what such a site sends is what the tests are about
