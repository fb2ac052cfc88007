"""Small trainings are faster on one thread, and two workers of pytest-xdist would take each other's cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is imported; the programs that tests start inherit it
