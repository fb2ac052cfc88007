"""What a folder of images holds, and a params.yaml that runs with it: the library behind `fedsynth init --from`."""

from __future__ import annotations

from fedsynth.study.found.found import Found
from fedsynth.study.found.machine import Machine
from fedsynth.study.found.recognise import look
from fedsynth.study.found.written import written

__all__ = ["Found", "Machine", "look", "written"]
