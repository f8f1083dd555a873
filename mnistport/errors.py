"""The one exception for mistakes that the user can mend."""


class UserError(ValueError):
    """Something the user gave cannot be used: say what it is, what was found and what to do.

    `str(error)` is one line, whatever went into it (a path, another library's message): line breaks become
    spaces. Command lines print it to standard error and exit with status 2, without a traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines() if line.strip()))
