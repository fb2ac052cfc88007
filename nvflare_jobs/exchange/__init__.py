"""The job of a training with the generator at the centre, which calls the sites at every step (FLARE's Collab API)."""
