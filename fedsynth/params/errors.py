"""ParamsError, shared by the modules of this folder."""

from __future__ import annotations

from fedsynth.errors import UserError


class ParamsError(UserError):
    """params.yaml cannot be used; the message names the file and the key and says what to do."""
