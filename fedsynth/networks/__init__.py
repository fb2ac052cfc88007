"""TODO fedsynth.networks."""
