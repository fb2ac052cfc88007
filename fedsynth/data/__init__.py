"""A site's images: one array file and one manifest for each set, and what reads,
cuts and deals out images before that.
"""
