"""Record: one image as a source reads it at the hospital."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Record:
    """One image as read: a float array (*S as read) for each channel that it has, all of one size unless `problem` says
    otherwise.
    """

    channels: dict[str, np.ndarray]
    label: str
    subject: str
    spacing_mm: tuple[float, ...] | None = None
    file: str = ""  # relative name, for messages at the site
    problem: str = ""
    mask_shape: tuple[int, ...] | None = None  # as read, where there is a mask
    split: str = ""  # train, val or test where the set has splits of its own; else by a hash of the subject
