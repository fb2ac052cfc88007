"""MLflow: runs while they go, models as versions, and which version is in use."""
