"""TODO nvflare_jobs.federation."""
