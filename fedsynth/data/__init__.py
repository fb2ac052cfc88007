"""Image sets: manifest and array files, reading, slicing, partitioning and pictures."""
