"""What a person sees of a run where there is no terminal: a line for each stage that starts and ends, and warnings as
they are.
"""

from __future__ import annotations

import io

from rich.console import Console

from fedsynth.stages.plan import Line, Plan
from flows.terminal import Terminal


def plan() -> Plan:
    lines = [Line("validate", ["x"], 10.0), Line("train@vae", ["x"], 90.0)]
    return Plan(lines, {"validate": [], "train@vae": ["validate"]})


def test_stages_rounds_and_warnings_are_lines_of_their_own():
    out = io.StringIO()
    with Terminal(2, plan(), Console(file=out, width=80)) as terminal:
        terminal.start("validate")
        terminal.warn(f"warning: left out: west {'x' * 100}")
        terminal.end("validate", "ran")
        terminal.start("train@vae")
        terminal.round(
            "train@vae", {"round": 0, "rounds": 4, "left": 12.3}, "autoencoder 0.5  discriminator 0.25  epsilon 1.5"
        )
        terminal.end("train@vae", "failed", "train@vae: error: no room")
    first, *lines = out.getvalue().splitlines()
    assert first == "2 of 2 stages to run, at most 2 at the same time: in about 1 min 40 s"
    assert lines[0] == "  … validate"
    assert lines[1] == f"warning: left out: west {'x' * 100}"  # not cut, not broken
    assert lines[2].split()[:3] == ["✔", "validate", "ran"]
    assert "train@vae: round 1/4  autoencoder 0.5  discriminator 0.25  epsilon 1.5  12 s left" in lines[4]
    assert lines[2].endswith("1/2   about 1 min 30 s left")
    assert lines[4].endswith("12 s left  (run: about 12 s left)"), "what the training says comes before the plan"
    assert lines[5].endswith("2/2"), "nothing is left"
    assert lines[6] == "train@vae: error: no room"
