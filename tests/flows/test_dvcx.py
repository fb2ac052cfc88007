"""Why a stage failed, in words, from what it printed."""

import pytest

from flows.dvcx import reason_of

DVC = "ERROR: failed to reproduce 'x': failed to run: fedsynth sample x, exited with 1"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["Running stage 'x':", "error: the site's own words", "  and more of them", DVC],
         "error: the site's own words\n  and more of them"),
        (["federation error: it was ended", DVC], "federation error: it was ended"),
        (["Traceback (most recent call last):", "ValueError: size 30 is odd", DVC], "ValueError: size 30 is odd"),
        (["a.b.SomeError: one", "During handling of the above exception", "torch.OutOfMemoryError: two", "", DVC],
         "torch.OutOfMemoryError: two"),
        (["all went well", DVC], ""),
        (["ERROR: output 'models/x' does not exist"], "ERROR: output 'models/x' does not exist"),
    ],
)  # fmt: skip
def test_the_stages_own_error_comes_first_then_the_last_line_of_a_traceback(lines, reason):
    assert reason_of(lines) == reason
