"""The three modes behind one interface: simulator, poc and production."""
