"""What a person sees of a run where there is no terminal: a line for each stage that starts and ends, and warnings as
they are.
"""

from __future__ import annotations

import io

from rich.console import Console

from flows.terminal import Terminal


def test_stages_rounds_and_warnings_are_lines_of_their_own():
    out = io.StringIO()
    with Terminal(2, Console(file=out, width=80)) as terminal:
        terminal.start("validate")
        terminal.warn(f"warning: left out: west {'x' * 100}")
        terminal.end("validate", "ran")
        terminal.start("train@vae")
        terminal.round("train@vae", {"round": 0, "rounds": 4, "left": 12.3}, "autoencoder 0.5")
        terminal.end("train@vae", "failed", "train@vae: error: no room")
    lines = out.getvalue().splitlines()
    assert lines[0] == "  … validate"
    assert lines[1] == f"warning: left out: west {'x' * 100}"  # not cut, not broken
    assert lines[2].split()[:3] == ["✔", "validate", "ran"]
    assert "train@vae: round 1/4  autoencoder 0.5  12 s left" in lines[4]
    assert lines[5].endswith("2/2")
    assert lines[6] == "train@vae: error: no room"
