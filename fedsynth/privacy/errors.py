"""PrivacyError, shared by the modules of this folder."""

from __future__ import annotations

from fedsynth.errors import UserError


class PrivacyError(UserError):
    """No such privacy can be had: a budget that makes no sense or is spent, a family whose loss does not allow it."""
