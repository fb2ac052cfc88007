"""Network blocks, optimiser and MONAI imports that families and uses share."""
