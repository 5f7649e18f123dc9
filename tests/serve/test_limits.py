"""What must not fill memory or disk: large bodies, header bombs, strange names, many at once."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from img2img.serve import api, exchange
from tests.imaging.samples import rle_bmp, smooth
from tests.serve.serving import as_file, png_bomb, serving, until

GIGABYTE = 1_000_000_000


def until_the_end(connection):
    """What comes until the server hangs up."""
    with connection.makefile("rb") as answer:
        return answer.read()


def files_of(client):
    walked = os.walk(client.server.pictures.folder)  # folders may vanish meanwhile
    return sorted(name for _, folders, files in walked for name in folders + files if name != "lock")


@pytest.mark.parametrize("path", ["pictures", "restore"])
def test_a_body_that_says_it_is_too_large_is_refused_unread(client, path):
    head = f"POST {client.root}{path}?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
    with client.raw() as connection:
        connection.sendall(f"{head}Content-Length: {2 * GIGABYTE}\r\n\r\n".encode())
        answer = until_the_end(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"5 MB" in answer
    assert files_of(client) == []


@pytest.mark.parametrize("path", ["pictures", "restore"])
def test_a_body_of_unknown_length_is_refused_at_the_limit(client, path):
    head = f"POST {client.root}{path}?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
    piece, sent = b"%x\r\n" % 65536 + bytes(65536) + b"\r\n", 0
    with client.raw() as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        with suppress(ConnectionError):  # it hangs up
            while sent < 2 * GIGABYTE:
                connection.sendall(piece)
                sent += 65536
        assert until_the_end(connection).startswith(b"HTTP/1.1 413")
    assert sent < 30_000_000
    assert files_of(client) == []


def test_a_length_that_is_a_lie_is_no_way_in(client):
    head = f"POST {client.root}pictures?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
    for length in ("-1", "1e9", "5, 6", "0x10"):
        with client.raw() as connection:
            connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
            assert connection.recv(10_000).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("make", [png_bomb, rle_bmp])
def test_a_header_that_claims_billions_of_pixels_is_refused(client, make):
    for side, status, reason in (
        (60_000, 422, "cannot read a.png: 60000x60000 pixels exceed the limit of 2000000000"),  # of the program
        (30_000, 413, "the picture has 900 megapixels; the limit of this server is 4"),
    ):
        data = make(side)
        assert len(data) < 500_000
        for path in ("pictures", "restore"):
            answer = client.ask("POST", path, data, name="a.png")
            assert (answer.status, answer.json["error"]) == (status, reason)
    assert files_of(client) == []


@pytest.mark.parametrize(
    "name",
    ["../a.png", "a/../../b.png", "/etc/a.png", "..\\a.png", "C:\\a.png", "c:a.png", "a//b.png", ".", "", "a\0.png",
     "a\nb.png", "./a.png", " /a.png", "x" * 2000 + ".png"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(client, name):
    for path in ("pictures", "restore"):
        answer = client.ask("POST", path, as_file(smooth()), **({"name": name} if name else {"name": ""}))
        assert answer.status == 400, (name, answer.body)
        assert "name" in answer.json["error"]
    assert files_of(client) == []


@pytest.mark.parametrize("name", ["a.svg", "a.pdf", "a.png.exe", "a", ".png"])
def test_names_of_other_files_are_refused(client, name):
    assert client.ask("POST", "pictures", as_file(smooth()), name=name).status == 415


@pytest.mark.parametrize(
    "data", [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n", bytes(5000)]
)
def test_what_is_no_picture_is_refused(client, data):
    answer = client.ask("POST", "pictures", data, name="a.png")
    assert answer.status == (422 if data else 400)
    assert str(client.server.pictures.folder) not in answer.json["error"]
    assert files_of(client) == []


def test_paths_and_addresses_are_no_masks_or_models(client):
    data = as_file(smooth())
    for mask in ("/etc/passwd", "http://example.com/a.png", "file:///etc/passwd", "#nocolour"):
        answer = client.restore(data, model="fill", mask=mask)
        assert answer.status in (400, 422)
        assert "mask" in answer.json["error"]
    for model in ("/etc/passwd", "../plain", "http://example.com/x.ckpt"):
        assert client.restore(data, model=model).status == 404


@pytest.mark.parametrize(
    "path", ["pictures/../state", "pictures/%2e%2e/before", "pictures/..%2f..%2fetc%2fpasswd/before"]
)
def test_addresses_that_climb_find_nothing(client, path):
    assert client.ask("GET", path).status == 404


def test_fifty_uploads_at_once_are_all_kept_and_removed(shelf):
    data = as_file(smooth(100, 100))
    with serving(shelf, uploads=2) as client, ThreadPoolExecutor(50) as pool:
        added = list(pool.map(lambda n: client.add(data, f"{n}.png")["id"], range(50)))
        assert len(set(added)) == 50
        assert {each["name"] for each in client.ask("GET", "state").json["pictures"]} == {f"{n}.png" for n in range(50)}
        assert client.ask("DELETE", "pictures").status == 204
        assert files_of(client) == []
        assert client.server.pictures.bytes == 0


def test_fifty_restorations_at_once_wait_or_are_told_to_come_again(shelf):
    data = as_file(smooth(200, 300))
    with serving(shelf, queue=3) as client, ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: client.restore(data, f"{n}.png"), range(50)))
        statuses = [answer.status for answer in answers]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 3
        busy = next(answer for answer in answers if answer.status == 503)
        assert int(busy.headers["retry-after"]) > 0
        assert "waiting" in busy.json["error"]
        until(lambda: not files_of(client))


def test_the_disk_is_not_filled(shelf):
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)  # a megabyte each
    with serving(shelf, gigabytes=1, pictures=3) as client:
        for n in range(3):
            client.add(as_file(noise), f"{n}.png")
        answer = client.ask("POST", "pictures", as_file(noise), name="4.png")
        assert answer.status == 507
        assert "3 pictures" in answer.json["error"]
        client.server.pictures.bytes += 998_000_000
        client.ask("DELETE", f"pictures/{client.ask('GET', 'state').json['pictures'][0]['id']}")
        answer = client.ask("POST", "pictures", as_file(noise), name="4.png")
        assert answer.status == 507
        assert "1 GB" in answer.json["error"]


def test_a_full_disk_is_said(client, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", str(client.server.pictures.folder))

    monkeypatch.setattr(api, "encode", full)
    answer = client.restore(as_file(smooth()))
    assert (answer.status, answer.json["error"]) == (507, "the disk of the server is full")
    until(lambda: not files_of(client))


def test_a_sender_that_falls_silent_is_given_up(client, monkeypatch):
    monkeypatch.setattr(exchange, "PATIENCE", 0.3)
    head = f"POST {client.root}pictures?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
    with client.raw() as connection:
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\nabc".encode())
        assert connection.recv(10_000).startswith(b"HTTP/1.1 408")
    assert files_of(client) == []


def test_a_sender_that_hangs_up_leaves_nothing(client):
    head = f"POST {client.root}pictures?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
    with client.raw() as connection:
        connection.sendall(f"{head}Content-Length: 1000000\r\n\r\nabc".encode())
        until(lambda: files_of(client))
    until(lambda: not files_of(client))


def test_a_program_that_hangs_up_stops_its_restoration(shelf):
    with serving(shelf, memory="1300MB") as client:  # small tiles
        data = as_file(smooth(1500, 2000))
        head = f"POST {client.root}restore?name=a.png&self_ensemble=1 HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
        with client.raw() as connection:
            connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            until(lambda: [each for each in client.server.pictures if each.work and each.work.share])
            (picture,) = client.server.pictures
        until(lambda: not files_of(client))
        assert "given up" in str(picture.work.result.exception()), "after a tile, not finished"
        assert picture.work.share < 1
        assert client.restore(as_file(smooth())).status == 200, "the next one has its turn"


def test_the_folder_is_private_and_a_killed_servers_is_emptied(shelf):
    with serving(shelf) as client:
        folder = client.server.pictures.folder
        assert folder.stat().st_mode & 0o777 == 0o700
        client.add(as_file(smooth()))
        left = folder.parent / "pictures-killed"
        left.mkdir()
        (left / "secret.png").write_bytes(b"x")
        with serving(shelf):
            assert not left.exists(), "what a killed server left is removed"
            assert files_of(client), "what a running one holds is not"


def test_threads_end_with_the_server(shelf):
    before = {thread.name for thread in threading.enumerate()}
    with serving(shelf) as client:
        client.add(as_file(smooth()))
    assert not [thread.name for thread in threading.enumerate() if thread.name == "serve" and "serve" not in before]
    assert os.listdir(client.server.pictures.folder.parent) == ["lock"]
