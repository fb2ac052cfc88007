"""Parameters that are not trained (`models.<name>.trainable`): the centre sends them to a site once."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
FROZEN = "frozen:"  # before their names in a message


def marked(arrays: Mapping[str, np.ndarray], frozen: Collection[str]) -> tuple[Arrays, Arrays]:
    """Return of the global parameters those that are trained, and the `frozen` ones by their names in a message."""
    trained = {name: a for name, a in arrays.items() if name not in frozen}
    return trained, {f"{FROZEN}{name}": arrays[name] for name in frozen if name in arrays}


def parted(received: Mapping[str, np.ndarray]) -> tuple[Arrays, Arrays]:
    """Return of a message the parameters that are trained, and by their own names those that are frozen."""
    frozen = {name.removeprefix(FROZEN): a for name, a in received.items() if name.startswith(FROZEN)}
    return {name: a for name, a in received.items() if not name.startswith(FROZEN)}, frozen
