"""Network blocks, optimiser and MONAI imports shared by the generative families and the downstream uses."""
