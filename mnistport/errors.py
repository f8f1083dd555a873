"""The exception for mistakes that the user can correct."""

import re

_FOR_TERMINALS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0e-\x1b\x7f]")
"""What changes how a terminal shows a text."""


LONGEST = 2000
"""The most letters of a message. A damaged file may hold a name of a million letters."""


class UserError(ValueError):
    """Something the user gave cannot be used.

    The message says which value is wrong, what was found, and what to do.
    `str(error)` is always one line. Line breaks in the message, perhaps from a path or
    from another library, become spaces, and what colours a text is left out. Of a message
    with more than `LONGEST` letters, the middle is left out.
    Command lines print it to standard error without a traceback, and exit with status 2.
    """

    def __init__(self, message: str) -> None:
        plain = _FOR_TERMINALS.sub("", message)
        lines = (line.strip() for line in plain.splitlines())
        message = " ".join(line for line in lines if line)
        if len(message) > LONGEST:
            message = f"{message[: LONGEST - 505]} ... {message[-500:]}"
        super().__init__(message)
