"""FLARE jobs: what runs inside hospitals, how jobs are built, and the interface through which the centre runs them."""
