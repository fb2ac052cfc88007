"""The job `score`: how networks trained on a synthetic set perform on each site's real test images.

The counterpart for networks trained on real images is `reference`.
"""
