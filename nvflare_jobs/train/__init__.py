"""The job `train`: rounds of local training. Sites return filtered parameter differences and mean losses."""
