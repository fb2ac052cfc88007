"""Who has submitted the job that this process works for, as FLARE has written it down at this site."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import psutil
from nvflare.apis.job_def import JobMetaKey


def of_job() -> tuple[str, str]:
    """Return the job's id and its submitter, both "" in the simulator, where there is none.

    FLARE starts a site's process of a job with the workspace (-m) and the id (-n), and keeps the job's meta data, as
    the server has sent them, in its folder. (sys.argv is the client's while it runs.)
    """
    words = psutil.Process().cmdline()
    # python's own -m comes first, and the later one counts
    found = {flag: value for flag, value in itertools.pairwise(words) if flag in ("-m", "-n")}
    if len(found) < 2:
        return "", ""
    path = Path(found["-m"]) / found["-n"] / "meta.json"
    if not path.is_file():
        return found["-n"], ""
    return found["-n"], str(json.loads(path.read_text(encoding="utf-8")).get(JobMetaKey.SUBMITTER_NAME.value, ""))
