"""The one door out of a hospital (docs/architecture.md): what may leave for each job, as a closed list; everything else
is refused.

Small cells. What the centre knows of a site's classes is what validation has shown, a number or "< 5" for each class
and split. From an exact total the one cell that is withheld would follow by a subtraction. So where a cell is withheld,
no count of real images leaves that it is part of, but the sum of the cells that are shown (as in
fedsynth/validation/verdict.py): a function of what is known, which can tell nothing.
"""

from fedsynth.hospital.outgoing.arrays import leave_arrays, leave_coded, leave_feedback
from fedsynth.hospital.outgoing.cells import COUNTED, MIN_CELL, Shown, most_told, shown, told
from fedsynth.hospital.outgoing.closed import Diverged, LeakError
from fedsynth.hospital.outgoing.door import JOBS, arrive, leave, vocabulary
from fedsynth.hospital.outgoing.judging import in_words
from fedsynth.validation.verdict import WITHHELD

__all__ = [
    "COUNTED",
    "JOBS",
    "MIN_CELL",
    "WITHHELD",
    "Diverged",
    "LeakError",
    "Shown",
    "arrive",
    "in_words",
    "leave",
    "leave_arrays",
    "leave_coded",
    "leave_feedback",
    "most_told",
    "shown",
    "told",
    "vocabulary",
]
