"""UserError: an error that a user can fix, shown as its message without a traceback."""

NO_STUDY = "go into the folder of a study (cd), or make one: `fedsynth init my-study`"


class UserError(ValueError):
    """An error that a user can fix; the message names the file, key, site or row, and says what to do."""
