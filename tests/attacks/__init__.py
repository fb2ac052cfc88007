"""Attacks of a hostile centre on a hospital's own functions, by configuration and arrays alone: no code travels."""
