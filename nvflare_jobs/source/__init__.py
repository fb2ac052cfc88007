"""The stage `source`, which looks at everything outside of DVC's graph."""
