"""Training at a site: the loop, optimisation state, coded updates, histories and weights."""
