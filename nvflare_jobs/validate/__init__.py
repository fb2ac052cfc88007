"""The job `validate`: the same expectations at every hospital; verdict, counts and digest come back."""
