"""A gate for a site without FLARE: a policy is held, and nothing is recorded."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from fedsynth.hospital.policy import Policy


def gate(policy: Policy | None = None) -> Any:
    return SimpleNamespace(
        policy=policy or Policy(),
        recorded=nullcontext,
        sent=lambda *of, **about: None,
        keep=lambda answer: None,
        unpaused=lambda: None,
    )
