"""The errors a user can cause. Each is shown as one sentence without a traceback, exit code 2."""


class UserError(Exception):
    """Something the user can fix. The message names what was found, where, and the fix."""


class DataError(UserError):
    """A picture, clip or folder is not what is needed."""


class ProtocolError(UserError):
    """A prediction cannot be scored under the protocol asked for."""


class ConfigError(UserError):
    """An unknown or invalid setting."""


class WeightsMissingError(UserError):
    """Network weights are not on this machine; the message holds the command that gets them."""


class WeightsCorruptError(UserError):
    """A weights file is not the pinned one, or is not safe to read."""
