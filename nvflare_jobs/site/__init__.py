"""The site's side of every job: its folders, the job's question, and outgoing answers."""
