"""TODO nvflare_jobs.centre."""
