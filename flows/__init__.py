"""WHEN: the flows that Prefect runs, shows, retries and schedules. Dependencies between stages are in dvc.yaml."""
