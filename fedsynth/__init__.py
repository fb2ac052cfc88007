"""Federated generative models for medical images: from validated hospital data to a registered model."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# The verbs of docs/python.md and the modules that hold them, which are imported at first use: torch takes seconds.
VERBS = {
    "generate": "fedsynth.generation.writing",
    "load": "fedsynth.generation.generator",
    "run": "fedsynth.study.verbs",
    "status": "fedsynth.study.verbs",
}


def __getattr__(name: str) -> Any:
    if name not in VERBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(VERBS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *VERBS})
