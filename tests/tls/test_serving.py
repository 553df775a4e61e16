"""HTTPS as clients see it: Python, curl, openssl; what applications are told of it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import warnings
from pathlib import Path

import pytest
import simple_websocket
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.http import Address, Peer
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.wait import wait_for
from tests.tls.client import connect, get, load
from tests.tls.conftest import Pki

WSGI = """
    import json, os

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/socket":
            sock = environ["gunicorn.socket"]
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n" + sock.recv(5)[::-1])
            sock.close()
            return []
        if environ["PATH_INFO"] == "/file":
            length = os.path.getsize("file.bin")
            start_response("200 OK", [("Content-Length", str(length))])
            return environ["wsgi.file_wrapper"](open("file.bin", "rb"))
        body = environ["wsgi.input"].read()
        told = {name: value for name, value in environ.items() if name.startswith("SSL_")}
        told |= {"scheme": environ["wsgi.url_scheme"], "length": len(body), "last": body[-1:].decode("latin-1")}
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(told).encode()]
"""

ASGI = """
    import json

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        told = json.dumps({"scheme": scope["scheme"], "tls": scope["extensions"].get("tls")})
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            message = await receive()
            await send({"type": "websocket.send", "text": told})
            await send({"type": "websocket.send", "text": str(len(message["text"]))})
            await send({"type": "websocket.close"})
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": told.encode()})
"""

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def wsgi(serve_module, pki) -> Server:
    flags = [*pki.flags, "--ca-certs", pki.path("ca.pem"), "--cert-reqs", "1"]
    server = serve_module.new()
    (server.directory / "file.bin").write_bytes(bytes(range(256)) * 8192)
    return server.start(*flags, "--workers", "1", app=WSGI, access_log=True)


@pytest.fixture(scope="module")
def asgi(serve_module, pki) -> Server:
    flags = [*pki.flags, "--ca-certs", pki.path("ca.pem"), "--cert-reqs", "1"]
    return serve_module(ASGI, *flags, "-k", "asgi")


def test_the_banner_says_https(wsgi):
    assert f"Listening at: https://127.0.0.1:{wsgi.address[1]} (" in wsgi.log


GATEWAYS = ["gthread", "gevent", "tornado"]
THEIR_OWN = ["gevent_pywsgi", "oxicorn.workers.gtornado.DirectTornadoWorker"]


@pytest.mark.parametrize("name", GATEWAYS + THEIR_OWN)
def test_every_class_serves_it_whoever_speaks_it(serve, pki, name):
    if "gevent" in name:
        pytest.importorskip("gevent")
    server = serve(WSGI, *pki.flags, "-k", name, ready=None)
    server.wait_for_log("Booting worker")
    status, body = get(server, pki.context())
    assert (status, json.loads(body)["scheme"]) == (200, "https")


def test_requests_of_one_connection_are_https(wsgi, pki):
    connection = connect(wsgi, pki.context())
    for length in (0, 10, MEGABYTE):
        connection.request("POST", "/", body=b"x" * length)
        told = json.loads(connection.getresponse().read())
        assert (told["scheme"], told["length"]) == ("https", length)
        assert told["SSL_CLIENT_VERIFY"] == "NONE"
    connection.close()


def test_files_are_sent(wsgi, pki):
    connection = connect(wsgi, pki.context())
    connection.request("GET", "/file")
    assert connection.getresponse().read() == bytes(range(256)) * 8192
    connection.close()


def test_the_application_knows_who_the_client_is(wsgi, pki):
    status, body = get(wsgi, pki.context("alice.pem"))
    told = json.loads(body)
    assert (status, told["SSL_CLIENT_VERIFY"]) == (200, "SUCCESS")
    assert "CN=alice" in told["SSL_CLIENT_S_DN"]
    assert "trustme" in told["SSL_CLIENT_I_DN"]
    certificate = told["SSL_CLIENT_CERT"]
    assert certificate in (pki.directory / "alice.pem").read_text()
    subject = subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=certificate, capture_output=True, text=True, check=True
    )
    assert subject.stdout.strip() == f"serial={told['SSL_CLIENT_M_SERIAL']}"


def test_a_client_with_a_bad_certificate_is_refused(wsgi, pki, tmp_path):
    import trustme

    mallory = tmp_path / "mallory.pem"
    trustme.CA().issue_cert("m@example.org").private_key_and_cert_chain_pem.write_to_path(str(mallory))
    context = pki.context()
    context.load_cert_chain(str(mallory))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        get(wsgi, context)
    assert get(wsgi, pki.context())[0] == 200


def test_the_connection_may_be_taken_over(wsgi, pki):
    with (
        socket.create_connection(("127.0.0.1", wsgi.address[1]), timeout=10) as plain,
        pki.context().wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"GET /socket HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.sendall(b"hello")
        received = b""
        while piece := client.recv(4096):
            received += piece
    assert received == b"HTTP/1.1 101 Switching Protocols\r\n\r\nolleh"


def test_the_extension_tls(asgi, pki):
    told = json.loads(get(asgi, pki.context())[1])
    assert told["scheme"] == "https"
    tls = told["tls"]
    assert (tls["tls_version"], tls["client_cert_chain"], tls["client_cert_name"]) == (0x0304, [], None)
    assert tls["cipher_suite"] in (0x1301, 0x1302, 0x1303)
    context = pki.context("alice.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    tls = json.loads(get(asgi, context)[1])["tls"]
    assert tls["tls_version"] == 0x0303
    assert "CN=alice" in tls["client_cert_name"]
    assert tls["client_cert_chain"][0] in (pki.directory / "alice.pem").read_text()


def test_websockets(asgi, pki):
    client = simple_websocket.Client(f"wss://localhost:{asgi.address[1]}/", ssl_context=pki.context())
    client.send("x" * 100_000)
    told = json.loads(client.receive(timeout=10))
    assert told["scheme"] == "wss"
    assert told["tls"]["tls_version"] == 0x0304
    assert client.receive(timeout=10) == "100000"


def _half_of_a_message(address: Address) -> bytes:
    """What a server answers to a request behind which the first half of a key update (RFC 8446 4.6.3) came."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of modules that nothing here uses
        api = pytest.importorskip("tlslite.api")
    from tlslite.constants import ContentType
    from tlslite.messages import Message

    with socket.create_connection(address, timeout=10) as plain:
        client = api.TLSConnection(plain)
        settings = api.HandshakeSettings()
        settings.minVersion = (3, 4)
        client.handshakeClientCert(settings=settings)
        client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in client._sendMsg(Message(ContentType.handshake, bytearray([24, 0]))):
            pass
        return bytes(client.read(max=65536, min=1))


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl(wsgi, pki, version):
    url = f"https://localhost:{wsgi.address[1]}/"
    command = ["curl", "-sS", "--cacert", pki.path("ca.pem"), f"--tlsv{version}", "--tls-max", version, url, url]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert found.stdout.count('"scheme": "https"') == 2


def _s_client(server: Server, pki: Pki, *options: str) -> str:
    target = f"localhost:{server.address[1]}"
    command = ["openssl", "s_client", "-connect", target, "-CAfile", pki.path("ca.pem"), *options]
    found = subprocess.run(command, input="", capture_output=True, text=True, timeout=30, check=False)
    return found.stdout + found.stderr


@pytest.mark.parametrize(
    "cipher",
    ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"],
)
def test_openssl_over_the_ciphers_of_tls_12(wsgi, pki, cipher):
    assert f"Cipher is {cipher}" in _s_client(wsgi, pki, "-tls1_2", "-cipher", cipher)


def test_what_is_not_offered_is_refused(wsgi, pki):
    assert "Cipher is (NONE)" in _s_client(wsgi, pki, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA")
    assert "Cipher is (NONE)" in _s_client(wsgi, pki, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")


def test_alpn(wsgi, pki):
    assert "ALPN protocol: http/1.1" in _s_client(wsgi, pki, "-alpn", "h2,http/1.1")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_sessions_are_resumed(wsgi, pki, version, tmp_path):
    session = str(tmp_path / "session")
    # What comes behind the handshake (tickets, with TLS 1.3) comes with the answer.
    request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    target = f"localhost:{wsgi.address[1]}"
    command = ["openssl", "s_client", "-connect", target, "-CAfile", pki.path("ca.pem"), version, "-ign_eof"]

    def ask(*options: str) -> str:
        found = subprocess.run([*command, *options], input=request, capture_output=True, text=True, timeout=30)
        return found.stdout

    assert "New, TLS" in ask("-sess_out", session)
    assert "Reused, TLS" in ask("-sess_in", session)


def test_plain_http_is_answered_and_logged(wsgi):
    answer = wsgi.get("/plain")
    assert (answer.status, answer.text) == (400, "plain HTTP was sent to a port that speaks TLS: use https\n")
    wait_for(lambda: any('"GET /plain HTTP/1.1" 400 ' in line for line in wsgi.lines("access.log")))


def test_handshakes_are_counted(serve, pki):
    port = free_port()
    server = serve(WSGI, *pki.flags, "--metrics-bind", f"127.0.0.1:{port}")

    def figures() -> dict[str, int]:
        with Peer(("127.0.0.1", port)) as peer:
            lines = [line.split() for line in peer.get("/metrics").text.splitlines()]
        return {line[0]: int(line[1]) for line in lines if line[0].startswith("oxicorn_tls_")}

    def grown() -> dict[str, int]:
        return {name: number - before[name] for name, number in figures().items()}

    before = figures()
    old, new = pki.context(), pki.context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    for context in (old, new, new):
        assert get(server, context)[0] == 200
    with connected(server, old) as first:
        first.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.recv(100)
        with connected(server, old, first.session) as again:
            assert again.session_reused
    with pytest.raises(ssl.SSLError):
        get(server, ssl.create_default_context())
    assert server.get("/plain").status == 400
    done, failed = "oxicorn_tls_handshakes_total", "oxicorn_tls_handshakes_failed_total"
    expected = {
        f'{done}{{version="1.2",resumed="false"}}': 2,
        f'{done}{{version="1.2",resumed="true"}}': 1,
        f'{done}{{version="1.3",resumed="false"}}': 2,
        f'{done}{{version="1.3",resumed="true"}}': 0,
        f'{failed}{{reason="protocol"}}': 1,
        f'{failed}{{reason="timeout"}}': 0,
        f'{failed}{{reason="plain_http"}}': 1,
    }
    wait_for(lambda: grown() == expected, what=lambda: f"{grown()} is {expected}")


def connected(server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    plain = socket.create_connection(server.address, timeout=10)
    return context.wrap_socket(plain, server_hostname="localhost", session=session)


def test_half_a_message_of_the_protocol_keeps_no_answer(serve, pki):
    server = serve(WSGI, *pki.flags)
    assert _half_of_a_message(server.address).startswith(b"HTTP/1.1 200 OK\r\n")
    assert get(server, pki.context())[0] == 200
    assert "Panic" not in server.log


def threads_of(pid: int) -> list[Path]:
    """A process' threads that make handshakes."""
    found = []
    for path in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # It has ended meanwhile.
            if (path / "comm").read_text().strip() == "tls-handshakes":
                found.append(path)
    return found


def test_threads_beside_the_owner_make_the_handshakes(serve, pki):
    server = serve(WSGI, *pki.flags, config="gateway_threads = 3\n")
    # Each names itself when it first runs.
    wait_for(lambda: len(threads_of(server.gateway_pid())) == 2)
    context = pki.context()
    with load(server, context, clients=8, keep_alive=False) as result:
        wait_for(lambda: result.answers >= 200)
    assert result.failures == []
    server.write("gunicorn.conf.py", "gateway_threads = 1\n")
    server.reload()
    wait_for(lambda: not threads_of(server.gateway_pid()))
    assert get(server, context)[0] == 200


def test_the_owner_makes_handshakes_too_where_the_threads_are_behind(serve, pki, tmp_path):
    # The dearer a handshake is for the server beside what else a connection costs, the plainer is who makes it.
    certificate, key = pki.signed(rsa.generate_private_key(public_exponent=65537, key_size=4096), tmp_path)
    server = serve(WSGI, "--certfile", certificate, "--keyfile", key, config="gateway_threads = 2\n")
    gateway = server.gateway_pid()
    wait_for(lambda: len(threads_of(gateway)) == 1)

    def processor_time(thread: Path) -> int:
        return int((thread / "schedstat").read_text().split()[0])

    with load(server, pki.context(), clients=16, keep_alive=False) as result:
        wait_for(lambda: result.answers >= 150)
    assert result.failures == []
    owner, thread = processor_time(Path(f"/proc/{gateway}/task/{gateway}")), processor_time(threads_of(gateway)[0])
    # It is a tenth, with its start, where the owner makes none.
    assert owner > thread / 4
