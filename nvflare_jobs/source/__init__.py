"""TODO nvflare_jobs.source."""
