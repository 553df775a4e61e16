"""Certificates: which are taken, what is refused, how they are replaced while clients are served."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from oxicorn import _native
from oxicorn.errors import ConfigError
from tests.support.http import Peer
from tests.support.wait import wait_for
from tests.tls.client import connect, get, load, serial_shown

HELLO = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", "5")])
        return [environ["wsgi.url_scheme"].encode().ljust(5)]
"""


def read(certificate, key=None, passphrase=None, ocsp=None, changes=None):
    """What the gateway would be given."""
    options = {"client_mode": 0, "ca_certs": None, "more_authorities": "", "least_version": "1.2"}
    options |= {"crlfile": None, "more_revoked": ""}
    options |= {"most_version": "1.3", "ciphers": None, "protocols": ["http/1.1"]} | (changes or {})
    return _native.read_certificates([(certificate, key, ocsp, passphrase)], **options)


@pytest.fixture(scope="module")
def rsa(tmp_path_factory):
    """A certificate of RSA, its key, and where more files may be."""
    import trustme

    directory = tmp_path_factory.mktemp("rsa")
    made = trustme.CA(key_type=trustme.KeyType.RSA).issue_cert("localhost", key_type=trustme.KeyType.RSA)
    made.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
    return str(directory / "cert.pem"), key, directory


def written(directory, content):
    path = directory / "key.pem"
    path.write_bytes(content)
    return str(path)


# Which keys are taken.


@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
def test_keys_of_rsa(rsa, form):
    certificate, key, directory = rsa
    read(certificate, written(directory, key.private_bytes(Encoding.PEM, form, NoEncryption())))


@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
def test_keys_of_elliptic_curves_and_in_the_file_of_the_certificate(pki, tmp_path, form):
    key = serialization.load_pem_private_key((pki.directory / "cert-key.pem").read_bytes(), None)
    text = key.private_bytes(Encoding.PEM, form, NoEncryption())
    read(pki.path("cert.pem"), written(tmp_path, text))
    both = written(tmp_path, text + (pki.directory / "cert.pem").read_bytes())
    read(both)


def test_keys_that_are_encrypted(rsa):
    certificate, key, directory = rsa
    encryption = serialization.BestAvailableEncryption(b"secret")
    path = written(directory, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    read(certificate, path, "secret")
    with pytest.raises(ConfigError, match="is encrypted, its passphrase belongs into keyfile_password"):
        read(certificate, path)
    with pytest.raises(ConfigError, match="keyfile_password is not the passphrase"):
        read(certificate, path, "wrong")
    old = written(directory, key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, encryption))
    with pytest.raises(ConfigError, match="openssl pkcs8 -topk8"):
        read(certificate, old, "secret")


def test_a_key_of_ed25519_is_spoken_with(serve, pki, tmp_path):
    certificate, key = pki.signed(ed25519.Ed25519PrivateKey.generate(), tmp_path)
    server = serve(HELLO, "--certfile", certificate, "--keyfile", key)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = pki.context()
        context.minimum_version = context.maximum_version = version
        assert get(server, context) == (200, "https")


def test_the_response_of_the_authority_is_stapled(serve, pki, tmp_path):
    """As a client sees it: its own OpenSSL checks the response and says what it says."""
    certificate, key = pki.signed(ec.generate_private_key(ec.SECP256R1()), tmp_path)
    stapled = tmp_path / "response.der"
    stapled.write_bytes(pki.ocsp_response(certificate))
    server = serve(HELLO, "--certfile", certificate, "--keyfile", key, "--ocsp-file", str(stapled))
    for version in ("-tls1_2", "-tls1_3"):
        target = ["-connect", f"localhost:{server.port}", "-CAfile", pki.path("ca.pem")]
        command = ["openssl", "s_client", *target, version, "-status", "-verify_return_error"]
        found = subprocess.run(command, input="", capture_output=True, text=True, timeout=30, check=True)
        assert "OCSP Response Status: successful (0x0)" in found.stdout
        assert "Cert Status: good" in found.stdout
    # A client that does not ask is not sent one.
    found = subprocess.run([*command[:-2]], input="", capture_output=True, text=True, timeout=30, check=True)
    assert "OCSP response" not in found.stdout


# What is refused, and why.


def test_reasons(pki, tmp_path, rsa):
    certificate, key = pki.path("cert.pem"), pki.path("cert-key.pem")
    other = pki.issue("other", "localhost")[1]
    odd = written(tmp_path, b"nothing")
    for arguments, changes, reason in [
        ((pki.path("none.pem"), key), {}, "none.pem cannot be read: No such file"),
        ((certificate, pki.path("none.pem")), {}, "none.pem cannot be read: No such file"),
        ((odd, key), {}, "has no certificate in PEM"),
        ((certificate, odd), {}, "has no private key in PEM"),
        ((certificate, other), {}, "does not belong to the certificate"),
        ((certificate, key, None, odd), {}, "is no OCSP response in DER"),
        ((certificate, key), {"client_mode": 2}, "ca_certs is needed too"),
        ((certificate, key), {"client_mode": 2, "ca_certs": odd}, "there is no certificate in PEM in it"),
        ((certificate, key), {"ciphers": ["RC4-SHA"]}, "none of RC4-SHA is offered"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            read(*arguments, changes=changes)


def test_an_expired_certificate_is_told_and_served(pki, tmp_path):
    import datetime

    import trustme

    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    made = pki.authority.issue_cert("localhost", not_after=past, not_before=past - datetime.timedelta(days=9))
    assert isinstance(made, trustme.LeafCert)
    path = written(tmp_path, made.private_key_and_cert_chain_pem.bytes())
    assert "has expired (2020-01-01" in read(path)[1][0]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--certfile", "none.pem"], "Certificates: none.pem cannot be read: No such file"),
        (["--keyfile", "none.pem"], "keyfile is set, certfile is needed too"),
    ],
)
def test_a_broken_certificate_is_one_error_and_no_listener(serve, flags, reason):
    server = serve(HELLO, *flags, ready=None)
    assert server.wait_for_exit() == 1
    errors = [line for line in server.log.splitlines() if "[ERROR]" in line]
    assert len(errors) == 1
    assert reason in errors[0]
    assert "Listening" not in server.log
    assert "Traceback" not in server.log


def test_check_config_knows_it_before(serve, pki):
    server = serve.new()
    other = pki.issue("another", "localhost")[1]
    server.start("--check-config", "--certfile", pki.path("cert.pem"), "--keyfile", other, app=HELLO, ready=None)
    assert server.wait_for_exit() == 1
    assert "does not belong to the certificate" in server.log


# Listeners.


def test_an_address_may_say_what_is_spoken_there(serve, pki):
    from tests.support.ports import free_port

    ports = [free_port() for _ in range(3)]
    binds = [f"https://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", f"127.0.0.1:{ports[2]}"]
    server = serve(HELLO, *pki.flags, bind=binds, ready=None)
    wait_for(lambda: "Listening at:" in server.log)
    assert f"Listening at: {binds[0]},{binds[1]},https://{binds[2]} (" in server.log
    for port in (ports[0], ports[2]):
        connection = connect(server, pki.context(), ("127.0.0.1", port))
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"https"
        connection.close()
    with Peer(("127.0.0.1", ports[1])) as peer:
        assert peer.get("/").text == "http "


def test_https_needs_a_certificate(serve):
    server = serve(HELLO, bind="https://127.0.0.1:8443", ready=None)
    assert server.wait_for_exit() == 1
    assert "must not say https:// without a certificate: set certfile" in server.log


def test_a_host_is_shown_its_certificate(serve, pki, tmp_path):
    certificate, key = pki.issue("shop", "shop.example", "*.shop.example")
    server = serve(HELLO, *pki.flags, "--sni-certificate", f"{certificate},{key}")
    context = pki.context()
    context.check_hostname = False

    def shown(name):
        import socket

        with (
            socket.create_connection(server.address, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as client,
        ):
            return {value for kind, value in client.getpeercert()["subjectAltName"] if kind == "DNS"}

    assert "shop.example" in shown("shop.example")
    assert "shop.example" in shown("a.shop.example")
    assert shown("b.a.shop.example") == shown("other.example") == shown(None) == {"localhost"}


# Certificates that change.


def installed(pki, directory, name):
    """As Kubernetes mounts them: links to a folder behind a link, which is replaced."""
    certificate, key = pki.issue(name, "localhost", "127.0.0.1")
    version = directory / name
    version.mkdir()
    os.rename(certificate, version / "tls.crt")
    os.rename(key, version / "tls.key")
    link = directory / "..new"
    link.symlink_to(name)
    os.replace(link, directory / "..data")
    return ssl._ssl._test_decode_cert(str(version / "tls.crt"))["serialNumber"]  # type: ignore[attr-defined]


def test_certificates_are_replaced_under_load_and_no_request_fails(serve, pki, tmp_path):
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    first = installed(pki, mounted, "first")
    for name in ("tls.crt", "tls.key"):
        (mounted / name).symlink_to(f"..data/{name}")
    flags = ["--certfile", str(mounted / "tls.crt"), "--keyfile", str(mounted / "tls.key")]
    server = serve(HELLO, *flags, "--workers", "1")
    context = pki.context()
    assert serial_shown(server, context) == first
    kept = connect(server, context)
    kept.request("GET", "/")
    kept.getresponse().read()
    with load(server, context) as load_kept, load(server, context, keep_alive=False) as load_new:
        second = installed(pki, mounted, "second")
        wait_for(lambda: serial_shown(server, context) == second)
        # Clients may see it before the arbiter has said it.
        wait_for(lambda: "Certificates have changed: new connections get the new ones" in server.log)
        third = installed(pki, mounted, "third")
        server.kill(signal.SIGHUP)
        wait_for(lambda: serial_shown(server, context) == third)
        wait_for(lambda: load_kept.answers > 50 and load_new.answers > 50)
    assert load_kept.failures == load_new.failures == []
    kept.request("GET", "/")
    assert kept.getresponse().read() == b"https"
    kept.close()
    # Broken: the old one stays, by itself and with a reload.
    (mounted / "third" / "tls.key").write_text("broken")
    wait_for(lambda: "Certificates have changed and cannot be used, the old ones stay" in server.log)
    assert "the old ones stay: Certificates" not in server.log
    server.kill(signal.SIGHUP)
    wait_for(lambda: "Reload refused, the old settings stay: Certificates: " in server.log)
    assert serial_shown(server, context) == third
    assert get(server, context)[0] == 200


def test_a_new_gateway_has_the_last_certificates_that_were_good(serve, pki, tmp_path):
    certificate, key = pki.issue("lasting", "localhost", "127.0.0.1")
    server = serve(HELLO, "--certfile", certificate, "--keyfile", key, "--workers", "1")
    context = pki.context()
    serial = serial_shown(server, context)
    os.unlink(key)
    wait_for(lambda: "cannot be used, the old ones stay" in server.log)
    os.kill(server.gateway_pid(), signal.SIGKILL)

    def is_back():
        try:
            return serial_shown(server, context) == serial
        except OSError:
            return False

    wait_for(is_back)
    assert get(server, context)[0] == 200


def test_reload_and_the_death_of_a_worker_lose_nothing(serve, pki):
    server = serve(HELLO, *pki.flags, "--workers", "2")
    context = pki.context()
    with load(server, context) as clients:
        wait_for(lambda: clients.answers > 50)
        before = set(server.worker_pids())
        server.kill(signal.SIGHUP)
        wait_for(lambda: len(server.worker_pids()) == 2 and not before & set(server.worker_pids()))
        os.kill(server.worker_pids()[0], signal.SIGTERM)
        answers = clients.answers
        wait_for(lambda: clients.answers > answers + 50)
    assert clients.failures == []
    server.kill(signal.SIGTERM)
    assert server.wait_for_exit() == 0


# Keys.


def memory_of(pid):
    """What a process can read of its own."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            borders, rights, *_ = line.split()
            start, end = (int(border, 16) for border in borders.split("-"))
            if rights.startswith("r") and "[v" not in line:
                yield readable_of(memory, start, end)


def readable_of(memory, start, end):
    """One mapping as far as it can be read: a read may end early, and the mapping may be gone by now."""
    pieces = []
    while start < end:
        try:
            memory.seek(start)
            piece = memory.read(end - start)
        except OSError:
            break
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the key, and memory of others")
def test_a_key_of_roots_is_used_after_privileges_are_gone_and_no_worker_has_it(serve, pki, tmp_path):
    certificate, key = pki.issue("rooted", "localhost", "127.0.0.1")
    os.chmod(key, 0o600)
    server = serve.new()
    os.chmod(server.directory, 0o755)
    flags = ["--certfile", certificate, "--keyfile", key, "--user", "nobody"]
    server.start(*flags, app=HELLO, config="workers = 2")
    context = pki.context()
    serial = serial_shown(server, context)
    renewed = pki.issue("renewed", "localhost", "127.0.0.1")
    os.replace(renewed[1], key)
    os.chmod(key, 0o600)
    os.replace(renewed[0], certificate)
    wait_for(lambda: serial_shown(server, context) != serial)
    assert get(server, context) == (200, "https")
    text = (pki.directory / "rooted-key.pem").read_bytes()
    private = serialization.load_pem_private_key(text, None).private_numbers().private_value
    secret = private.to_bytes(32, "big")
    traces = [text.splitlines()[2], secret]
    # That they would be found shows a process that has them: this one. (The gateway turns the key into numbers of
    # another form, and what it read may be overwritten by now.)
    assert any(secret in part for part in memory_of(os.getpid()))
    before = set(server.worker_pids())
    server.kill(signal.SIGHUP)
    wait_for(lambda: len(server.worker_pids()) == 2 and not before & set(server.worker_pids()))
    for pid in [server.pid, *server.worker_pids()]:
        assert not any(trace in part for part in memory_of(pid) for trace in traces), pid
