"""Import MONAI without the optional packages that it looks for: 0.6 instead of 2.6 CPU-seconds, 93 instead of 250 MiB
in every process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# MONAI's handlers, plots, readers and transforms import these where they are installed; nothing here uses those. (What
# `None` in sys.modules means: the import statement's documentation. Only names that are not loaded yet are hidden, and
# only while MONAI is imported.)
HIDDEN = ("mlflow", "matplotlib", "tensorboard", "ignite", "scipy", "sklearn", "nibabel", "requests")


@contextmanager
def monai_imports() -> Iterator[None]:
    hidden = [name for name in HIDDEN if name not in sys.modules and "monai" not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def with_scipy(module: str) -> None:
    """Read a module of MONAI again that was imported while scipy was hidden: what it looked for is there now.

    Its functions find the new names where they looked before, in the module's own dictionary, which a reload fills in
    place.
    """
    import importlib

    import scipy.ndimage
    import scipy.spatial

    loaded = sys.modules[module]
    if getattr(loaded, "scipy_ndimage", None) is not scipy.ndimage:
        importlib.reload(loaded)
