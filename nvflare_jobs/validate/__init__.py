"""The job `validate`: the same expectations at every site. Sites return verdict, counts and digest."""
