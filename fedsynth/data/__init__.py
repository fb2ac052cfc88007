"""TODO fedsynth.data."""
