"""The hospital's side without FLARE: what may leave a site, checks of a site, startup kits."""
