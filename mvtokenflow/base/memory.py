"""Whether an error says that memory ran out: every library has its own way of saying so."""

import errno
import sys

_WORDS = ("can't allocate memory", "not enough memory", "std::bad_alloc", "can't start new thread")


def ran_out(error: BaseException) -> str | None:
    """The reason in an error of memory that ran out, on the machine or its device; None for other errors.

    PyTorch raises its own type on CUDA only: on the CPU it is a bare RuntimeError with a sentence in it.
    """
    torch = sys.modules.get("torch")  # not imported for this: without it, its memory cannot have run out
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return ". ".join(_line(error).split(". ")[:2])  # of a page on the allocator
    told = (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS))
    )
    return _line(error) if told else None


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no more to be had"])[0]
