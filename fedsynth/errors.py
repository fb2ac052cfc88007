"""UserError: an error that a person can fix, shown as its message without a traceback."""


class UserError(ValueError):
    """The message names the file, key, site or row, and says what to do."""
