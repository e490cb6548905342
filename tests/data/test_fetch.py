"""Downloads against a local server: resume, retries, checksums."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from udc_robust.data.fetch import CHECKSUMS, PANORAMAS, Download, fetch, panoramas, read_list
from udc_robust.errors import UserError

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; breaks off, fails or ignores ranges as told, and notes what was asked."""

    break_after: list[int]
    failures: list[int]
    ranges: bool
    asked: list[str | None]
    onward: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/a.hdr"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.server.onward:
            self.send_response(302)
            self.send_header("Location", self.server.onward)
            self.end_headers()
            return
        if self.server.failures:
            self.send_error(self.server.failures.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        length = self.server.break_after.pop(0) if self.server.break_after else len(CONTENT)
        self.wfile.write(CONTENT[start : start + length])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.break_after, server.failures, server.ranges, server.asked, server.onward = [], [], True, [], ""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def no_pause(seconds: float) -> None:
    assert seconds > 0


def test_first_download_records_its_checksum(server: Server, tmp_path: Path) -> None:
    paths = fetch(tmp_path, [Download("a.hdr", server.url)], pause=no_pause)
    assert paths == [tmp_path / "a.hdr"] and paths[0].read_bytes() == CONTENT
    assert read_list(tmp_path / CHECKSUMS) == [Download("a.hdr", server.url, len(CONTENT), SHA)]
    fetch(tmp_path, [Download("a.hdr", server.url)], pause=no_pause)
    assert len(server.asked) == 1  # the second run asks for nothing
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdr", CHECKSUMS]


def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.break_after = [1000, 500]
    fetch(tmp_path, [Download("a.hdr", server.url, sha256=SHA)], pause=no_pause)
    assert server.asked == [None, "bytes=1000-", "bytes=1500-"]
    assert (tmp_path / "a.hdr").read_bytes() == CONTENT


def test_a_killed_run_is_resumed(server: Server, tmp_path: Path) -> None:
    server.break_after = [1000]
    with pytest.raises(UserError, match="run the same command again"):
        fetch(tmp_path, [Download("a.hdr", server.url, sha256=SHA)], tries=1)
    assert not (tmp_path / "a.hdr").exists()
    fetch(tmp_path, [Download("a.hdr", server.url, sha256=SHA)], pause=no_pause)
    assert server.asked[1] == "bytes=1000-"
    assert (tmp_path / "a.hdr").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_anew(server: Server, tmp_path: Path) -> None:
    server.break_after, server.ranges = [1000], False
    fetch(tmp_path, [Download("a.hdr", server.url, sha256=SHA)], pause=no_pause)
    assert (tmp_path / "a.hdr").read_bytes() == CONTENT


def test_too_long_a_remainder_starts_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".a.hdr.part").write_bytes(CONTENT + b"more")
    fetch(tmp_path, [Download("a.hdr", server.url, sha256=SHA)], pause=no_pause)
    assert (tmp_path / "a.hdr").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.failures = [503, 429]
    fetch(tmp_path, [Download("a.hdr", server.url)], pause=no_pause)
    assert len(server.asked) == 3


def test_a_missing_file_is_told_at_once(server: Server, tmp_path: Path) -> None:
    server.failures = [404]
    with pytest.raises(UserError, match=r"a\.hdr answers 404"):
        fetch(tmp_path, [Download("a.hdr", server.url)], pause=no_pause)
    assert len(server.asked) == 1


@pytest.mark.parametrize("expected", [{"sha256": "0" * 64}, {"size": 3}])
def test_a_wrong_file_is_not_kept(server: Server, tmp_path: Path, expected: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"a\.hdr has (size|sha256)"):
        fetch(tmp_path, [Download("a.hdr", server.url, **expected)], pause=no_pause)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_is_found_later(server: Server, tmp_path: Path) -> None:
    fetch(tmp_path, [Download("a.hdr", server.url)], pause=no_pause)
    (tmp_path / "a.hdr").write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(UserError, match=r"a\.hdr has sha256"):
        fetch(tmp_path, [Download("a.hdr", server.url)], pause=no_pause)


def test_no_server(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = server.server_port
    server.server_close()
    waits: list[float] = []
    with pytest.raises(UserError, match="network"):
        fetch(tmp_path, [Download("a.hdr", f"http://127.0.0.1:{port}/a.hdr")], tries=3, pause=waits.append)
    assert waits == [1, 2]


BAD_LISTS = {
    "not json": "{",
    "no list of entries": '{"a": 1}',
    "unknown key": '[{"file": "a.hdr", "url": "https://x", "md5": "0"}]',
    "path": '[{"file": "../a.hdr", "url": "https://x"}]',
    "hidden": '[{"file": ".a.hdr", "url": "https://x"}]',
    "local": '[{"file": "a.hdr", "url": "file:///etc/hosts"}]',
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_bad_lists_are_named(tmp_path: Path, case: str) -> None:
    (tmp_path / "list.json").write_text(BAD_LISTS[case])
    with pytest.raises(UserError, match=r"list\.json"):
        read_list(tmp_path / "list.json")


def test_a_list_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", tmp_path, tmp_path / "nowhere.json"):
        with pytest.raises(UserError, match="is no file: check the path"):
            read_list(path)


def test_own_list(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps([{"file": "a.hdr", "url": "https://x/a", "size": 3}]))
    assert read_list(tmp_path / "list.json") == [Download("a.hdr", "https://x/a", 3)]


def test_the_default_list_is_poly_haven() -> None:
    downloads = panoramas()
    assert len({entry.file for entry in downloads}) == len(PANORAMAS) > 30
    assert all(
        entry.url.startswith("https://dl.polyhaven.org/") and entry.url.endswith("_1k.hdr") for entry in downloads
    )


@pytest.mark.parametrize("onward", ["ftp://127.0.0.1/a.hdr", "file:///etc/passwd", "http://[bad/a.hdr"])
def test_no_server_sends_us_out_of_the_web(server: Server, tmp_path: Path, onward: str) -> None:
    server.onward = onward
    with pytest.raises(UserError, match=r"sends us on to|Redirection to url .* is not allowed"):
        fetch(tmp_path, [Download("a.hdr", server.url)], tries=1, pause=no_pause)
    assert len(server.asked) == 1 and not (tmp_path / "a.hdr").exists()


@pytest.mark.parametrize("url", ["http://[bad", "https://", "http://a b/", "http://x:port/", "http://\n/x"])
def test_malformed_addresses_are_named(tmp_path: Path, url: str) -> None:
    (tmp_path / "list.json").write_text(json.dumps([{"file": "a.hdr", "url": url}]))
    with pytest.raises(UserError, match=r"the address of a\.hdr, .* is malformed"):
        read_list(tmp_path / "list.json")
