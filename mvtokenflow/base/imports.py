"""Import of objects named on a command line as "package.module:attribute".

Names read from a file are never imported.
"""

import traceback
from importlib import import_module
from typing import Any

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.names import brief


def attribute_at(place: str, what: str) -> Any:
    """Import the object at "package.module:attribute".

    Args:
        what: start of the message, e.g. "method mine:ROW".

    Raises:
        ConfigError: there is nothing to import, or importing it raises an error.
    """
    module, _, attribute = place.partition(":")
    if not all(part.isidentifier() for part in module.split(".")) or not attribute.isidentifier():
        raise ConfigError(
            f"{what}: cannot import '{brief(place)}': it is no package.module:attribute; write it like mine:ROW"
        )
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{what}: cannot import {brief(place)} ({error}); is its package installed?"
        ) from error
    except (Exception, SystemExit) as error:  # third-party code may raise anything
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"{what}: importing {module} ends in {type(error).__name__} ({error}) at {at.filename}:{at.lineno};"
            " mend it there"
        ) from error
