"""The one error that a user is meant to read."""


class InputError(Exception):
    """Something given to cocogs cannot be used: a file, a folder, a number, a full disk.

    The message is one sentence that names the file (or option) and what to do. The command line
    prints it on stderr without a traceback and exits with code 2.
    """
