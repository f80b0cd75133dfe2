"""Errors that a user can act on: one line naming the key or column, the value and the remedy.

The command line prints these without a traceback; anything else is a bug and keeps its traceback.
"""


class VbonError(ValueError):
    """An error whose message is meant for the person at the keyboard."""


class ConfigError(VbonError):
    """A configuration key has a value that cannot work."""


class DataError(VbonError):
    """Input text, rewards or samples cannot be used."""


class ArtifactError(VbonError):
    """An artifact is missing, truncated, or not of the schema its reader expects."""
