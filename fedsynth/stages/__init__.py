"""The stages of dvc.yaml, one file each: read what the stage depends on, call the package, write what it yields."""
