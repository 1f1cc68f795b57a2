"""Checks of options that the commands of `mvtf` share."""


def check_minutes(minutes: float | None) -> None:
    """Refuse a sitting of no length.

    Raises:
        ConfigError: not a positive number.
    """
    from mvtokenflow.base.errors import ConfigError

    if minutes is not None and not minutes > 0:  # NaN too
        raise ConfigError(f"--minutes {minutes}: must be positive")
