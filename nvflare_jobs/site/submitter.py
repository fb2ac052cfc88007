"""The job that this process works for, and who has submitted it, as FLARE has written it down at this site."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import psutil
from nvflare.apis.job_def import JobMetaKey


def of_process() -> tuple[str, str]:
    """Return workspace and id of the job that this process works for, both "" in the simulator.

    FLARE starts a site's process of a job with the workspace (-m) and the id (-n). (sys.argv is the client's while it
    runs.)
    """
    words = psutil.Process().cmdline()
    # python's own -m comes first, and the later one counts
    found = {flag: value for flag, value in itertools.pairwise(words) if flag in ("-m", "-n")}
    return (found["-m"], found["-n"]) if len(found) == 2 else ("", "")


def of_job() -> tuple[str, str]:
    """Return the job's id and its submitter, both "" in the simulator, where there is none.

    FLARE keeps the job's meta data, as the server has sent them, in its folder.
    """
    workspace, number = of_process()
    path = Path(workspace) / number / "meta.json"
    if not number or not path.is_file():
        return number, ""
    return number, str(json.loads(path.read_text(encoding="utf-8")).get(JobMetaKey.SUBMITTER_NAME.value, ""))
