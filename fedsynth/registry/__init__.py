"""TODO fedsynth.registry."""
