"""TODO fedsynth.worth."""
