"""The exception for mistakes that the user can correct."""

import re


class UserError(ValueError):
    """Something the user gave cannot be used.

    The message says which value is wrong, what was found, and what to do.
    `str(error)` is always one line. Line breaks in the message, perhaps from a path or
    from another library, become spaces. Codes for colours are left out.
    Command lines print it to standard error without a traceback, and exit with status 2.
    """

    def __init__(self, message: str) -> None:
        plain = re.sub("\x1b\\[[0-9;]*[A-Za-z]", "", message)  # colours
        lines = (line.strip() for line in plain.splitlines())
        super().__init__(" ".join(line for line in lines if line))
