"""Text between two markers of a page, which a command writes and the rest of which people write."""

from pathlib import Path

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import write_text


def markers(name: str) -> tuple[str, str]:
    """Return the lines between which the text of a name lies."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def write_marked(page: Path, name: str, text: str) -> None:
    """Replace the text between the markers of a page.

    Raises:
        DataError: no such page, or it does not contain both markers once, in order.
    """
    begin, end = markers(name)
    try:
        whole = page.read_text()
    except OSError as error:
        raise DataError(f"{page}: cannot be read ({error.strerror}); name a page with the markers") from error
    if whole.count(begin) != 1 or whole.count(end) != 1 or whole.index(begin) > whole.index(end):
        raise DataError(f"{page}: needs one line {begin} and below it one line {end}; add them")
    before, after = whole.split(begin)[0], whole.split(end)[1]
    write_text(page, f"{before}{begin}\n\n{text}\n{end}{after}")
