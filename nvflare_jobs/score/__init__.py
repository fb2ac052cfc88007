"""The job `score`: what networks trained on a synthetic set (or, as `reference`, on real ones) reach on each site's
real test images.
"""
