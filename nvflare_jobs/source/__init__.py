"""The stage `source`, which records the state of everything outside DVC's graph."""
