"""The hospital's side of one job: holds it against the policy, counts it, keeps its answer, and records what leaves."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.hospital.policy.hold import hold_numbers, study_of
from fedsynth.hospital.policy.model import Paused, Policy, PolicyError, load, paused
from fedsynth.hospital.policy.question import Question
from fedsynth.hospital.record import Record

ANSWERS = "answers"  # folder in a site's state
KEPT = ("reference", "score")  # kinds whose answers are kept: a repeated question learns nothing new


class Gate:
    """The gate of one job at a site.

    `folder`: the site's state; `path`: its policy; `job`: the kind; `about`: names and digests of the job for the
    record ("id", "submitter").
    """

    def __init__(self, folder: Path, path: Path, job: str, about: dict[str, str]):
        self.folder, self.path, self.job, self.about = Path(folder), Path(path), job, about
        self.record = Record(self.folder)
        self.digest, self.study = "", ""  # of the policy, and which of its studies: "" until it is read
        self.asked: Question | None = None
        self.question = ""

    @cached_property
    def policy(self) -> Policy:
        policy, self.digest = load(self.path)
        return policy

    def admit(self, asked: Question, data: str) -> dict[str, Any] | None:
        """Hold the job against the policy. Returns the answer that was given before to the same question, or None.

        `data`: the digest of the site's images. Raises PolicyError; a refusal is recorded, too.
        """
        self.asked, self.question = asked, _digest(asked, data)
        with self.recorded(data=data):
            self.unpaused()
            policy = self.policy
            self.study = study_of(policy, asked)
            self.unpaused()
            if (kept := self._kept()) is not None:
                self._note("repeated", data=data)
                return kept
            hold_numbers(policy, asked)
            self._often(policy, data)
        self._note("asked", data=data)
        return None

    @contextmanager
    def recorded(self, **more: Any) -> Iterator[None]:
        """Record a refusal by a rule that is held inside."""
        try:
            yield
        except PolicyError as error:
            self._note("refused", rule=error.rule, **more)
            raise

    def unpaused(self) -> None:
        """Raise Paused where the hospital has paused all jobs, or those of this study; asked before every task."""
        if (why := paused(self.path)) is not None:
            raise Paused("paused", f"this hospital has paused all jobs: {why}; `fedsynth policy resume` lets them in")
        if self.study and (why := paused(self.path, self.study)) is not None:
            said = f"this hospital has paused the study {self.study}: {why}"
            raise Paused("paused", f"{said}; `fedsynth policy resume --study {self.study}` lets it in")

    def keep(self, answer: dict[str, Any]) -> None:
        """Keep an answer as it leaves, for the same question."""
        if (path := self._answer()) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            part.write_text(json.dumps(answer), encoding="utf-8")
            part.replace(path)

    def sent(self, sent: dict[str, np.ndarray] | None = None, numbers: dict[str, Any] | None = None,
             **more: Any) -> None:  # fmt: skip
        """Record what is about to leave, the arrays `sent` and the `numbers`: sizes and digests, no value."""
        self._note("sent", **_about_arrays(sent or {}), **_about_numbers(numbers or {}), **more)

    def _note(self, what: str, **more: Any) -> None:
        self.record.add({"what": what, "job": self.job, **self.about, "question": self.question[:16],
                         "policy": self.digest[:16], "study": self.study, **more})  # fmt: skip

    def _answer(self) -> Path | None:
        """Return the file of the answer to this question; None of a training, and of kinds that are not kept."""
        kept = self.job in KEPT and self.asked is not None and "rounds" not in self.asked.config
        return self.folder / ANSWERS / f"{self.question}.json" if kept else None

    def _kept(self) -> dict[str, Any] | None:
        if (path := self._answer()) is None or not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _often(self, policy: Policy, data: str) -> None:
        """Count the different questions of this kind about the same data within a day."""
        since = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        earlier = {
            of["question"]
            for of in self.record.recent(since)
            if (of["what"], of["job"], of.get("data")) == ("asked", self.job, data)
        }
        most = policy.a_day.of(self.job)
        if len(earlier - {self.question[:16]}) >= most:
            said = f"{len(earlier)} different questions of this kind came within a day, {most} are allowed"
            raise PolicyError(f"a_day.{self.job}", said)


def _digest(asked: Question, data: str) -> str:
    """Return the SHA-256 of a question: its words and arrays, the data, this software."""
    found = hashlib.sha256(
        json.dumps([asked.job, asked.config, asked.min_cell, data, _software()], sort_keys=True).encode()
    )
    for name in sorted(asked.arrays):
        array = np.ascontiguousarray(asked.arrays[name])
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _software() -> str:
    """Return the SHA-256 of the installed package's modules: other code may give another answer."""
    found, root = hashlib.sha256(), Path(__file__).parents[3]
    for package in ("fedsynth", "nvflare_jobs"):
        for path in sorted((root / package).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


def _about_arrays(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if not arrays:
        return {}
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    numbers = sum(int(array.size) for array in arrays.values())
    size = sum(int(array.nbytes) for array in arrays.values())
    return {"arrays": len(arrays), "values": numbers, "bytes": size, "sha256": found.hexdigest()}


def _about_numbers(numbers: dict[str, Any]) -> dict[str, Any]:
    if not numbers:
        return {}
    text = json.dumps(numbers, sort_keys=True).encode()
    return {"keys": sorted(numbers), "answer_bytes": len(text), "answer_sha256": hashlib.sha256(text).hexdigest()}
