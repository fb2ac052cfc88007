"""What a training's history (models/<model>/history.json) says of how it went: who was left out of which rounds, where it was resumed."""

from __future__ import annotations

from typing import Any


def left_out(history: dict[str, Any]) -> dict[str, str]:
    """{"north": "2 of 12 rounds (3, 4): no update within the time of grace"}, the last reason of each site; rounds count from 1."""
    rounds: dict[str, list[int]] = {}
    reasons: dict[str, str] = {}
    for record in history["rounds"]:
        for site, why in record.get("left_out", {}).items():
            rounds.setdefault(site, []).append(record["round"] + 1)
            reasons[site] = why
    total = len(history["rounds"])
    return {site: f"{len(of)} of {total} rounds ({_spans(of)}): {reasons[site]}" for site, of in rounds.items()}


def resumed(history: dict[str, Any]) -> str:
    """ "with round 4", or nothing: the rounds with which another job went on after one was lost or ended."""
    rounds = [number + 1 for number in history.get("resumed_at", [])]
    return f"with round {_spans(rounds)}" if rounds else ""


def _spans(numbers: list[int]) -> str:
    """ "1, 3-5" """
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
