"""How sites learn together: both halves of an algorithm in one file.

At the site, four hooks of the loop (fedsynth/train.py): `begin`, `penalty`, `after_step`, `end`, and `state`, what must outlive a round.
At the server, `prepare` (what travels beside the weights) and `aggregate` (what becomes of the sites' differences), on numpy arrays:
neither half knows FLARE; nvflare_jobs/train/ carries both.
"""

from __future__ import annotations

from fedsynth.algorithms.fedavg import FedAvg as Algorithm

__all__ = ["Algorithm"]
