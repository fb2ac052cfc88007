"""Federated algorithms, each with its server and its site half in one file.

At a site, the training loop (fedsynth/training/trainer.py) calls the hooks `begin`, `penalty`, `after_step` and `end`;
`state` returns what must be kept between rounds. At the server, `prepare` returns what is sent beside the weights and
`aggregate` combines the sites' differences, as numpy arrays. Neither half depends on FLARE; nvflare_jobs/train/
connects both to it.

`job` names the FLARE job that runs an algorithm: "train", rounds of local training as above, or "exchange" (mdgan.py),
in which the centre trains too and queries the sites at every step. An algorithm of the second kind has `parameters`
(what the centre holds before and after the training), `prepare` and `check` like the others, and `weighting`,
`discriminator_steps` and `call_s`; its two halves are in fedsynth/training/central_generator.py and
nvflare_jobs/exchange/ connects them to FLARE.
"""

from __future__ import annotations

from fedsynth.algorithms.fedavg import FedAvg as Algorithm

__all__ = ["Algorithm"]
