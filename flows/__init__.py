"""WHEN: the flows that Prefect runs, shows, retries and schedules. What depends on what is dvc.yaml's."""
