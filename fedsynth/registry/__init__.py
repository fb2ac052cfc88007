"""MLflow: tracking of runs, registered model versions, and aliases."""
