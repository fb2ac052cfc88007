"""UserError: an error that a user can fix, shown as its message without a traceback."""


class UserError(ValueError):
    """An error that a user can fix; the message names the file, key, site or row, and says what to do."""
