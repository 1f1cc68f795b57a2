"""Detection of errors that mean memory ran out, in each library's own form."""

import errno
import sys

_WORDS = ("can't allocate memory", "not enough memory", "std::bad_alloc", "can't start new thread")


def ran_out(error: BaseException) -> str | None:
    """Return the reason if an error means that memory ran out on the machine or its device; else None.

    PyTorch raises its own type on CUDA only: on the CPU it is a bare RuntimeError with a sentence in it.
    """
    torch = sys.modules.get("torch")  # not imported here: if it is not loaded, its memory cannot have run out
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return ". ".join(_line(error).split(". ")[:2])  # the full message is a page long
    exhausted = (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS))
    )
    return _line(error) if exhausted else None


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no more to be had"])[0]
