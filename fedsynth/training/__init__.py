"""Local training at a site: training loop, optimiser state, compressed updates, histories and weights."""
