"""What a site runs in every job: its folders, its question, and the way out through the one door."""
