"""Failure codes that a hospital sends to the centre: a closed list; details stay in the site's log."""

from __future__ import annotations

import errno

# The code that leaves the site, and the centre's message for it.
FAILURES = {
    "data": "its data cannot be used as they are; its log names the row or file (`fedsynth check` at the site)",
    "not_validated": "its data are not those that passed validation; run validate again",
    "settings": "its environment is not set up; its log names the variable (`fedsynth check` at the site)",
    "withheld": "something was about to leave that may not; its log names the key",
    "version": "it runs another version of fedsynth than the centre",
    "diverged": "its training diverged; lower the learning rate or look at that site's data",
    "policy": "its policy does not allow this job; its log has the rule (`fedsynth policy show` at the site)",
    "paused": "the hospital has paused all jobs; ask there",
    "privacy": "its privacy budget is spent, not known any more, or makes no sense there; its log has the reason",
    "disk": "its disk is full or cannot be written to",
    "rank": "one of the processes that train there together ended (out of memory?); its log has the reason",
    "died": "its process died twice at this point (out of memory?); its log and its system's have the reason",
    "memory": "it ran out of memory",
    "error": "an error; its log has the reason",
}


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

# Class names instead of classes, so that nothing is imported; the first match in an error's MRO counts.
WORDS = {
    "SetError": "data",
    "NotValidated": "not_validated",
    "Withdrawn": "not_validated",
    "SettingsError": "settings",
    "EncryptionError": "settings",
    "DeviceError": "settings",
    "PrecisionError": "settings",
    "GroupError": "settings",
    "RankDied": "rank",
    "PermissionError": "settings",
    "LeakError": "withheld",
    "Paused": "paused",
    "PolicyError": "policy",
    "ChainError": "policy",
    "Diverged": "diverged",
    "PrivacyError": "privacy",
    "ParamsError": "version",
    "ValidationError": "version",
    "CodingError": "version",
    "ProcessDied": "died",
    "MemoryError": "memory",
    "OutOfMemoryError": "memory",
}


def word(error: BaseException) -> str:
    """Return the key of FAILURES for an error."""
    if isinstance(error, OSError) and error.errno in FULL:
        return "disk"
    return next((WORDS[cls.__name__] for cls in type(error).__mro__ if cls.__name__ in WORDS), "error")
