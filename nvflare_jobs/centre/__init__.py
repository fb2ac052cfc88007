"""The centre's side of jobs: running a stage, building job folders, showing events, collecting rows."""
