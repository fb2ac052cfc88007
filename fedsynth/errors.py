"""What went wrong in a way that a person can mend: shown as its message alone, without a traceback."""


class UserError(ValueError):
    """The message names the file, key, site or row, and says what to do."""
