"""TODO fedsynth.report."""
