"""Training state that the server keeps across jobs, so that an interrupted training continues after its last round.

FLARE does not resume jobs: a job whose server died stays "running" for ever. The files are outside the job's workspace,
in the folder that FEDSYNTH_STATE names in the server's environment, and belong to the *training* (its `key`) rather
than to the job: the next job of the same training finds them.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from nvflare.apis.fl_context import FLContext
from safetensors import SafetensorError, safe_open

from nvflare_jobs.server import round_log

GLOBAL = "global.safetensors"
BESIDE = "beside.safetensors"  # an algorithm's further arrays (fedsynth/algorithms: extra_arrays)


class SavedRounds:
    """The kept files of the training `key`; without a key nothing is kept."""

    def __init__(self, fl_ctx: FLContext, key: str):
        root = os.environ.get("FEDSYNTH_STATE") or Path(fl_ctx.get_engine().get_workspace().get_root_dir()) / "fedsynth"
        self.folder = Path(root) / "server" / "train" / key if key else None

    def restore(self, run_dir: Path) -> int:
        """Copy the kept files into a new job's run folder.

        Returns the number of completed rounds, 0 where nothing is kept.
        """
        done = self._done()
        if done and self.folder:
            for name in (GLOBAL, BESIDE):
                if (self.folder / name).is_file():
                    shutil.copy(self.folder / name, run_dir / name)
            earlier = [record for record in round_log.read(self.folder / round_log.ROUNDS) if record["round"] < done]
            (run_dir / round_log.ROUNDS).write_text(
                "".join(json.dumps(record) + "\n" for record in earlier), encoding="utf-8"
            )
        return done

    def _done(self) -> int:
        if not self.folder or not (self.folder / GLOBAL).is_file():
            return 0
        try:
            with safe_open(self.folder / GLOBAL, "np") as file:
                return int(file.metadata()["round"]) + 1
        except SafetensorError:
            return 0  # another version's or damaged file: the training starts afresh

    def save(self, run_dir: Path) -> None:
        """Save the state after a round. The parameters are written last: they tell which rounds are complete."""
        if not self.folder:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (round_log.ROUNDS, BESIDE, GLOBAL):
            if name == BESIDE and not (run_dir / name).is_file():
                continue
            part = self.folder / f"{name}.part"
            shutil.copy(run_dir / name, part)
            part.replace(self.folder / name)

    def forget(self) -> None:
        """Delete the kept files, once the training is complete."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
