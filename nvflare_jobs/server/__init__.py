"""Components that run on FLARE's server. They use numpy only: without torch and MONAI the server starts faster."""
