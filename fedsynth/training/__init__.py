"""TODO fedsynth.training."""
