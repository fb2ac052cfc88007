"""TODO nvflare_jobs.site."""
