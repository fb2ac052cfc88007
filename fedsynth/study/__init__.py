"""A study: its owner's folder with params.yaml, dvc.yaml, data versions and results, as a git and DVC repository."""
