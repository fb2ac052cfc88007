"""What happens inside hospitals: FLARE jobs, how they are built, and the one interface through which the centre runs
them.
"""
