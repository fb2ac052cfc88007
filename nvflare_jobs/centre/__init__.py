"""What the centre calls: a stage as a program, the folder of its job, its events, and the rows that come back."""
