"""The three ways a command can fail, each with its exit code; everything else is a bug and shows its traceback."""


class MarqueeError(Exception):
    """Base of the errors written for the person who made the mistake. `str(error)` is what the terminal shows."""

    exit_code = 1


class ConfigError(MarqueeError):
    """A key, value or combination that cannot run (exit 2)."""

    exit_code = 2


class DataError(MarqueeError):
    """Data that is missing, damaged or not what its format says (exit 3)."""

    exit_code = 3


class JobError(MarqueeError):
    """A run that started and could not finish, such as a NaN loss or a full disk (exit 4)."""

    exit_code = 4
