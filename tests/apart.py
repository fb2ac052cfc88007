"""Work in a process of its own, and the largest memory of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def last_line(*arguments: str, **environment: str) -> str:
    """The last line that Python prints with these arguments, from the project's folder and on one thread."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        check=False,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()[-1]


def peak_mib() -> float:
    """The peak of this program: what getrusage tells begins with that of the process that started it."""
    told = Path("/proc/self/status").read_text(encoding="utf-8").split("VmHWM:")[1]
    return int(told.split()[0]) / 1024
