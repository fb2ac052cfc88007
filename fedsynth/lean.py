"""Import MONAI without the optional packages that it looks for: 1.7 instead of 3.6 CPU-seconds in every process of a federation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# MONAI's handlers and plots import these where they are installed; nothing here uses those. (What `None` in sys.modules means: the
# import statement's documentation. Only names that are not loaded yet are hidden, and only while MONAI is imported.)
HIDDEN = ("mlflow", "matplotlib", "tensorboard", "ignite")


@contextmanager
def monai_imports() -> Iterator[None]:
    hidden = [name for name in HIDDEN if name not in sys.modules and "monai" not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
