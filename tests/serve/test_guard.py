"""Who may ask: the right Host, the right Origin, the token; and what browsers are told."""

import pytest

from img2img.errors import UserError
from img2img.serve.limits import Limits
from img2img.serve.server import Server
from img2img.serve.work import Engine


def test_the_page_comes_with_headers_that_bind_the_browser(client):
    page = client.ask("GET", "")
    assert page.status == 200
    assert b"Restore pictures" in page.body
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer", "the address holds the token"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not [name for name in page.headers if name.lower().startswith("access-control")]
    for name in ("page.css", "divider.js", "serve.js", "icon.svg"):
        assert client.ask("GET", name).status == 200
    assert not [name for name in page.headers if name.lower() == "server"]


def test_the_page_names_nothing_outside(client):
    files = [
        client.ask("GET", name).body for name in ("", "page.css", "divider.css", "serve.css", "serve.js", "enlarge.js")
    ]
    assert [text for text in files if b"https://" in text or b'src="//' in text] == []


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""])
def test_a_foreign_host_is_refused(client, host):
    answer = client.ask("GET", "state", headers={"Host": host.format(port=client.port)})
    assert answer.status == 421
    assert "--name" in answer.json["error"]


def test_two_hosts_or_none_are_refused(client):
    own = f"Host: 127.0.0.1:{client.port}\r\n"
    for hosts, status in ((own, b"200"), (own + "Host: evil.example\r\n", b"4"), ("", b"4")):
        with client.raw() as connection:
            connection.sendall(f"GET {client.root}state HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
            assert connection.recv(4000).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_a_foreign_origin_is_refused(client, origin):
    answer = client.ask("POST", "pictures", b"x", headers={"Origin": origin}, name="a.png")
    assert answer.status == 403
    assert "other sites" in answer.json["error"]
    assert client.ask("GET", "state").json["pictures"] == []


def test_its_own_origin_passes_under_each_local_name(client):
    for host in (f"127.0.0.1:{client.port}", f"localhost:{client.port}", f"[::1]:{client.port}"):
        headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert client.ask("GET", "state", headers=headers).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_browser_sends_for_another_site_is_refused(client, site):
    assert client.ask("GET", "state", headers={"Sec-Fetch-Site": site}).status == 403


def test_a_preflight_of_another_site_gets_no_permission(client):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = client.ask("OPTIONS", "restore", headers=headers)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/", "/state", "/restore", "/wrong-token/state", "/token", "//state", "/../state", "/%2e%2e/state"]
)
def test_without_the_token_nothing_is_told(client, path):
    answer = client.ask("GET", path, whole=True)
    assert answer.status == 403
    assert "token" in answer.json["error"]


def test_part_of_the_token_is_not_enough(client):
    assert client.ask("GET", client.root.rstrip("/")[:-1] + "/state", whole=True).status == 403


def test_programs_may_send_the_token_in_a_header(client):
    token = client.root.strip("/")
    assert client.ask("GET", "/state", whole=True, headers={"Authorization": f"Bearer {token}"}).status == 200
    assert client.ask("GET", "/state", whole=True, headers={"Authorization": f"Bearer {token}x"}).status == 403
    assert client.ask("GET", "/state", whole=True, headers={"Authorization": f"Basic {token}"}).status == 403


def test_tokens_differ(shelf):
    addresses = set()
    for _ in range(3):
        with Server(shelf, Engine("cpu"), Limits()) as server:
            addresses.add(server.address.split("/")[3])
    assert len(addresses) == 3
    assert min(map(len, addresses)) >= 32


def test_listening_everywhere_needs_a_name(shelf):
    with pytest.raises(UserError, match="--name"):
        Server(shelf, Engine("cpu"), Limits(), host="0.0.0.0")
    with Server(shelf, Engine("cpu"), Limits(), host="0.0.0.0", names=["photos.lan"]) as server:
        assert server.address.startswith("http://photos.lan:")


def test_an_address_of_another_machine_ends_in_one_line(shelf):
    with pytest.raises(UserError, match=r"nothing can listen there"):
        Server(shelf, Engine("cpu"), Limits(), host="192.0.2.1")
