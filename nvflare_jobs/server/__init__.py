"""What FLARE's server runs in a job. On numpy arrays: the server needs neither torch nor MONAI, which saves its
start-up.
"""
