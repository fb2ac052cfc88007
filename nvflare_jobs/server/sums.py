"""Adds encrypted updates at the server, which cannot read them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fedsynth.params import Block
from nvflare_jobs import keys
from nvflare_jobs.keys import ENCRYPTED
from nvflare_jobs.server.updates import LARGEST, Answer, Shapes, Unusable


class Sums:
    """`encryption`: models.<name>.encryption as JSON text. A site's weight is in what it sent, unseen."""

    def __init__(self, encryption: str):
        self.cipher: Any = Block(**json.loads(encryption)).build()

    def fitting(self, answer: Answer, shapes: Shapes) -> bytes:
        """Return a site's ciphertext. Raises Unusable if it is none, or not of as many numbers as were sent."""
        array = answer.arrays.get(ENCRYPTED) if isinstance(answer.arrays, dict) else None
        if type(array) is not np.ndarray or array.dtype != np.uint8:
            raise Unusable("sent no encrypted update; does it run the same version?")
        secret, numbers = array.tobytes(), sum(int(np.prod(shape)) for shape in shapes.values())
        try:
            found = self.cipher.length(secret, keys.read(keys.PUBLIC))
        except (ValueError, RuntimeError, TypeError):  # TenSEAL's, for bytes that are no vector of these keys
            raise Unusable("sent what is no encrypted update under the consortium's keys") from None
        if found != numbers:
            raise Unusable(f"sent {found} encrypted numbers instead of {numbers}")
        return secret

    def add(self, secrets: list[bytes]) -> bytes:
        return bytes(self.cipher.add(secrets, keys.read(keys.PUBLIC)))

    def mean(self, total: Any, weight: float, shapes: Shapes) -> dict[str, np.ndarray]:
        """Return the mean of the opened sum. Raises Unusable if a site opened it to what can be no sum."""
        numbers = sum(int(np.prod(shape)) for shape in shapes.values())
        if type(total) is not np.ndarray or total.dtype != np.float64 or total.shape != (numbers,):
            raise Unusable("opened the sum to something else than numbers")
        if not (np.abs(total / weight) <= LARGEST).all():
            raise Unusable("opened the sum to numbers that no update has")
        return dict(self.cipher.shaped(total / weight, dict(shapes)))
