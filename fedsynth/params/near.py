"""The nearest known name to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: object, known: Iterable[str]) -> str:
    """The name that is most like a word, "" where none is; upper and lower case are alike."""
    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(str(word).lower(), list(folded), 1)
    return folded[found[0]] if found else ""


def near(word: object, known: Iterable[str]) -> str:
    """ "; did you mean 'latent'?", or nothing."""
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found else ""
