"""What a site runs in every job: folders, the question, and the outgoing answers."""
