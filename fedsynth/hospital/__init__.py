"""TODO fedsynth.hospital."""
