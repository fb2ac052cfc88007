"""The nearest known name to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: object, known: Iterable[str]) -> str:
    """Return the known name most similar to a word, "" if there is none; case is ignored."""
    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(str(word).lower(), list(folded), 1)
    return folded[found[0]] if found else ""


def near(word: object, known: Iterable[str]) -> str:
    """Return a hint like "; did you mean 'latent'?", or ""."""
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found else ""
