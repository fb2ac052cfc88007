"""A client that does what its job says at each site and round: answers, raises, dies hard, or hangs."""

import os
import time

import numpy as np
from nvflare.client import FLModel, send

from nvflare_jobs.site import Site, main


def work(site: Site) -> None:
    for received in site.tasks():
        how = site.config["how"].get(site.name, "fine") if received.current_round == site.config.get("at", 0) else "fine"
        if how == "die":
            os._exit(9)
        if how == "raise":
            raise RuntimeError("the disk of this site is full")
        if how == "hang":
            time.sleep(3600)
        # The marks of a real client's state outlive the job: proof of where a site may write.
        difference = {name: np.ones_like(a) for name, a in received.params.items()}
        if how == "nan":
            difference = {name: a * np.nan for name, a in difference.items()}
        metrics = {"loss/net": float(len(site.name) + received.current_round), "weight": 1.0}
        send(FLModel(params=difference, params_type="DIFF", metrics=metrics, meta={"weight": 1.0, "answer": {"site": site.name}}))


if __name__ == "__main__":
    main(__file__, work)
