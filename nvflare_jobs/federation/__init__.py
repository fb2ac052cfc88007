"""The three federation modes behind one interface: simulator, poc and production."""
