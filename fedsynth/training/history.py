"""Reads a training's history (models/<model>/history.json): sites left out or bounded, resumed rounds, bytes sent."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

WAYS, UNITS = ("down", "up", "asking"), ("B", "kB", "MB", "GB", "TB")


def left_out(history: dict[str, Any]) -> dict[str, str]:
    """Returns for each site that was left out the rounds, counted from 1, and its last reason.

    Example: {"north": "2 of 12 rounds (3, 4): no update within the time of grace"}.
    """
    return _named(history, "left_out")


def bounded(history: dict[str, Any]) -> dict[str, str]:
    """Returns the same for each site whose update or weight was bounded, with what was done to it last."""
    return _named(history, "bounded")


def _named(history: dict[str, Any], key: str) -> dict[str, str]:
    rounds: dict[str, list[int]] = {}
    reasons: dict[str, str] = {}
    for record in history["rounds"]:
        for site, why in record.get(key, {}).items():
            rounds.setdefault(site, []).append(record["round"] + 1)
            reasons[site] = why
    total = len(history["rounds"])
    return {site: f"{len(of)} of {total} rounds ({_spans(of)}): {reasons[site]}" for site, of in rounds.items()}


def resumed(history: dict[str, Any]) -> str:
    """Returns the rounds at which a new job continued the training, such as "with round 4", or "" if there are none."""
    rounds = [number + 1 for number in history.get("resumed_at", [])]
    return f"with round {_spans(rounds)}" if rounds else ""


def traffic(history: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Returns bytes by site: `down`, `up` and `asking` as means per round, and `all` for the whole training.

    They are measured by nvflare_jobs/server/traffic.py; empty for histories of versions that did not measure them.
    """
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for record in history["rounds"]:
        for site, counts in record.get("traffic", {}).items():
            sums[site].update({name.removeprefix("bytes_"): count for name, count in counts.items()})
    rounds = len(history["rounds"])
    return {
        site: {way: of[way] / rounds for way in WAYS} | {"all": sum(of[way] for way in WAYS)}
        for site, of in sums.items()
    }


def sized(count: float) -> str:
    """Format a number of bytes, such as "812 kB", in the unit that leaves at most three digits before the point.

    Units are powers of 1000.
    """
    unit = next((u for u in ("B", "kB", "MB", "GB") if count < 1000 ** (UNITS.index(u) + 1)), "TB")
    value = count / 1000 ** UNITS.index(unit)
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.3g} {unit}"


def _spans(numbers: list[int]) -> str:
    """Format increasing numbers as ranges, such as "1, 3-5"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
