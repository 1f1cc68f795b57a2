"""Escaping of untrusted text for markdown, spreadsheets and JSON shown in a terminal."""

import re

from mvtokenflow.base.names import printable

# Every character that could start a construct; `_` inside a word never does in GitHub's dialect.
_MD_SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^(?:[#+-]|\d+(?=[.)]))(?=.?\s)")
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are the full-width forms of the first
_JSON_RAW = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def markdown(text: str) -> str:
    """Escape `text` for one line of GitHub's markdown: no markup, no HTML, no control characters."""
    line = printable(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MD_SPECIAL.sub(lambda found: f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}", line)


def spreadsheet(value: object) -> object:
    """Make a CSV cell safe: text that a spreadsheet would evaluate gets a leading quote; numbers stay."""
    if not isinstance(value, str):
        return value
    return printable(f"'{value}" if value.startswith(_FORMULA) else value)


def json_for_terminals(text: str) -> str:
    """Escape the characters in a JSON document that a terminal would act on."""
    return _JSON_RAW.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
