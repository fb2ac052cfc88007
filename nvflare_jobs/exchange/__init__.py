"""The job of a training whose generator is at the centre: at every step it asks the sites, over FLARE's Collab API."""
