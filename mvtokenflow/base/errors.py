"""Errors that a user can cause, each shown as one sentence without a traceback, with exit code 2."""


class UserError(Exception):
    """An error that the user can fix; its message names what was found, where, and the fix."""


class DataError(UserError):
    """A picture, clip or folder is not valid input."""


class ProtocolError(UserError):
    """A prediction cannot be scored under the chosen protocol."""


class ConfigError(UserError):
    """An unknown or invalid setting."""


class WeightsMissingError(UserError):
    """Network weights are not on this machine; the message gives the command that fetches them."""


class WeightsCorruptError(UserError):
    """A weights file differs from its pin, or is not safe to read."""
