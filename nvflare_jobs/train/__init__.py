"""The job `train`: rounds of local training; filtered differences and mean losses come back."""
