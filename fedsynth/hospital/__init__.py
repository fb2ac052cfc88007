"""The hospital's side that is independent of FLARE: what may leave, checks of a site, startup kits."""
