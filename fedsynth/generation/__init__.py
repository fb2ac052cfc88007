"""Images from a released model, for people who had no part in its training: `fedsynth generate`, `fedsynth.load`."""
