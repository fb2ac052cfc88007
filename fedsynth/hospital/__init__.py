"""What a hospital answers for: what may leave it, whether it is ready to take part, and whose kit it holds."""
