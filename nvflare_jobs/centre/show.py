"""Prints a job's events for the terminal, or as JSON for the flow."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fedsynth.params import names
from fedsynth.training.history import sized
from nvflare_jobs.federation import interface

# prefix of an output line that must stay visible to the user, whatever else is printed
WARNING = "warning: "
EVENT = "::event "  # prefix of an output line whose rest is JSON for the flow


class EventPrinter:
    """Prints a job's events as terminal lines, or as JSON for the flow: round, losses, seconds, time left."""

    def __init__(self, stage: str, rounds: int, events: bool, texts: Mapping[str, str] | None = None):
        self.stage, self.rounds, self.events = stage, rounds, events
        self.texts = texts or {}  # the names of sites by their keys
        self.started = self.last = time.monotonic()
        self.first_round: float | None = None
        self.seen = 0
        self.job_id = ""

    def __call__(self, event: interface.Event) -> None:
        now = time.monotonic()
        event = interface.Event(**names.told(asdict(event), self.texts))
        if event.kind == "job":
            self.job_id = event.status
            self.event({"kind": "job", "job_id": event.status})
            return
        if event.kind == "status":
            self.event({"kind": "status", "status": event.status})
            if event.status.startswith(interface.NOTABLE):
                print(f"{WARNING}{self.stage}: {event.status}", flush=True)
            elif not self.events:
                print(f"{self.stage}: {event.status}", flush=True)
            return
        if event.resumed:
            print(
                f"{WARNING}{self.stage}: goes on with round {event.round + 1}, where an earlier job of this training"
                " ended",
                flush=True,
            )
        for site, why in event.left_out.items():
            print(f"{WARNING}{self.stage}: round {event.round + 1} without {site}: {why}", flush=True)
        for site, why in event.bounded.items():
            print(f"{WARNING}{self.stage}: round {event.round + 1}, update of {site}: {why}", flush=True)
        seconds, self.last = event.seconds or now - self.last, now
        self.seen += 1
        self.first_round = self.first_round or now
        left = (now - self.first_round) / (self.seen - 1) * (self.rounds - event.round - 1) if self.seen > 1 else None
        numbers = {"round": event.round, "rounds": self.rounds, "seconds": round(seconds, 2), "left": left}
        self.event(
            {"kind": "round"}
            | numbers
            | {"sites": event.sites, "left_out": event.left_out, "bounded": event.bounded}
            | {"traffic": event.traffic}
        )
        if not self.events:
            ahead = f"  {left:.0f} s left" if left is not None else ""
            sent = sum(sum(counts.values()) for counts in event.traffic.values())
            moved = f"  {sized(sent)}" if sent else ""
            print(
                f"{self.stage}: round {event.round + 1}/{self.rounds}  {losses(event.sites)}{moved}{ahead}", flush=True
            )

    def event(self, event: dict[str, Any]) -> None:
        if self.events:
            print(EVENT + json.dumps({"stage": self.stage} | event), flush=True)


def losses(sites: dict[str, dict[str, float]]) -> str:
    """Format each player's loss, the sites' weighted mean, and the largest epsilons, of this and of all trainings.

    For instance "generator 0.710"; entries are separated by two blanks.
    """
    total = sum(s.get("weight", 1.0) for s in sites.values()) or 1.0
    players = sorted({k for s in sites.values() for k in s if k.startswith("loss/")})
    mean = {p: sum(s.get("weight", 1.0) * s.get(p, 0.0) for s in sites.values()) / total for p in players}
    words = [f"{p.removeprefix('loss/')} {v:.3f}" for p, v in mean.items()]
    for name, said in {"epsilon": "epsilon", "epsilon_total": "of all trainings"}.items():
        spent = [s[name] for s in sites.values() if name in s]
        words += [f"{said} {max(spent):.2f}"] if spent else []
    return "  ".join(words)
