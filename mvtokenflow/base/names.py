"""Checks of names that become folders or files, and escaping of text for terminals.

Names come from command lines, manifests, records, baselines and datasets of third parties, and end up as parts
of paths, on pages and in tables. One rule holds for all: `name_fault`.
"""

import re
from pathlib import PureWindowsPath

MAX_NAME_BYTES = 200  # file systems allow 255; temporary files and suffixes add to a name

# Control characters, line ends of Unicode, halves of surrogate pairs, and what reverses the direction of text.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSEEN_IN_TEXT = re.compile(_UNSEEN.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def name_fault(name: object) -> str | None:
    """Explain why `name` cannot name a folder, in words that follow "it"; None if it can.

    A name is text of 1 to `MAX_NAME_BYTES` bytes in UTF-8 without "/", a backslash, a drive, control characters
    or lone surrogates, and neither "." nor "..".
    """
    if not isinstance(name, str):
        return f"is {type(name).__name__} and not text"
    if not name.strip():
        return "is empty"
    if name in (".", ".."):
        return "leads to another folder"
    if "/" in name or "\\" in name or PureWindowsPath(name).drive:
        return "leads to another folder: a name has no / and no \\"
    if _UNSEEN.search(name):
        return "holds control characters"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"has more than {MAX_NAME_BYTES} bytes"
    return None


def printable(text: str) -> str:
    r"""Replace characters that a terminal would act on by their escapes, such as \x1b.

    Line ends and tabs stay.
    """
    return _UNSEEN_IN_TEXT.sub(lambda found: _escaped(found[0]), text)


def brief(text: str, most: int = 80) -> str:
    """Shorten `text` for a message: printable, on one line, cut in the middle if longer than `most`."""
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most // 4) :]}"
    return _UNSEEN.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
