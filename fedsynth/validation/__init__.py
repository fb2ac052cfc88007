"""TODO fedsynth.validation."""
