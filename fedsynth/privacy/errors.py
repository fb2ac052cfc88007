"""PrivacyError, shared by the modules of this folder."""

from __future__ import annotations

from fedsynth.errors import UserError


class PrivacyError(UserError):
    """The privacy asked for is not possible: an invalid or spent budget, or a family whose loss does not allow it."""
