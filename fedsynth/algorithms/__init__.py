"""Federated algorithms: the server's half and the site's half of each in one file.

At the site, four hooks of the loop (fedsynth/training/trainer.py): `begin`, `penalty`, `after_step`, `end`, and
`state`, what must outlive a round. At the server, `prepare` (what travels beside the weights) and `aggregate` (what
becomes of the sites' differences), on numpy arrays: neither half knows FLARE; nvflare_jobs/train/ carries both.

`job` says what carries an algorithm: "train", rounds of local training as above; or "exchange" (mdgan.py), where the
centre trains too and asks the sites at every step. One of that kind has `parameters`, what the centre has before and
after the training, `prepare` and `check` as the others, `weighting`, `discriminator_steps` and `call_s`;
fedsynth/training/central_generator.py has both halves, nvflare_jobs/exchange/ carries them.
"""

from __future__ import annotations

from fedsynth.algorithms.fedavg import FedAvg as Algorithm

__all__ = ["Algorithm"]
