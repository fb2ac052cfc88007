"""Blocks, optimiser and imports that families and downstream networks share."""
