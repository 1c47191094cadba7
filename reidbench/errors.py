"""The errors that a user can cause or mend; the command line prints them without a traceback."""

from __future__ import annotations


class ReidbenchError(Exception):
    """A mistake or a failure whose message says what was expected, what was found and what to do.

    ``exit_code`` is what the command line ends with: 2 where the request was wrong, 1 where a run failed.
    """

    exit_code = 2


class OptionError(ReidbenchError):
    """A name, an option or a value in a spec, a suite or a flag that cannot be used."""


class PluginError(ReidbenchError):
    """A plugin, or an item of one, that breaks the contract of its hook."""


class ContractError(ReidbenchError, AssertionError):
    """A plugin item that fails a contract check of ``reidbench.testing``; ``check`` is the name of that check."""

    exit_code = 1

    def __init__(self, message: str, check: str = "") -> None:
        super().__init__(message)
        self.check = check


class DataError(ReidbenchError):
    """A file or a folder of a data set, a record or a store that is missing, damaged or not what it should be."""


class TrainingError(ReidbenchError):
    """A training that could not go on: a loss that is not finite, a batch without a positive, memory."""

    exit_code = 1


class OutOfMemory(TrainingError):
    """A training that found no memory left; the message says what to lower."""


class PeerError(ReidbenchError):
    """A process that cannot go on since another, which trains with it, has ended and says why."""

    exit_code = 1


class Interrupted(ReidbenchError):
    """A run that stopped because it was asked to, after the step was finished and the state saved."""

    exit_code = 1
