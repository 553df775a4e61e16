"""Certificates of clients that are refused: why, in words; lists of revoked ones."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.wait import wait_for
from tests.tls.client import connect, get
from tests.tls.conftest import Pki

WSGI = """
    import json

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"subject": environ["SSL_CLIENT_S_DN"]}).encode()]
"""

DAY = datetime.timedelta(days=1)


class Authority:
    """An authority that can revoke."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "revoking authority")])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = self._builder(self.name, self.key.public_key())
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = made.add_extension(usage, critical=True).sign(self.key, hashes.SHA256())
        self.path = str(directory / "authority.pem")
        Path(self.path).write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        self.list = str(directory / "revoked.pem")

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(issuer_name=self.name, subject_name=subject, public_key=key)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - DAY).not_valid_after(now + 30 * DAY)

    def client(self, name: str) -> tuple[str, int]:
        """A client's certificate with its key, a file; and its number."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = self._builder(subject, key.public_key())
        made = made.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        certificate = made.sign(self.key, hashes.SHA256())
        path = self.directory / f"{name}.pem"
        own = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        path.write_bytes(key.private_bytes(*own) + certificate.public_bytes(serialization.Encoding.PEM))
        return str(path), certificate.serial_number

    def revoke(self, *numbers: int, ends: datetime.timedelta = DAY) -> None:
        """Writes the list anew, in one step."""
        now = datetime.datetime.now(datetime.timezone.utc)
        made = x509.CertificateRevocationListBuilder(issuer_name=self.name)
        made = made.last_update(now - 2 * DAY).next_update(now + ends)
        made = made.add_extension(x509.CRLNumber(len(numbers)), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        made = made.add_extension(identifier, critical=False)
        for number in numbers:
            revoked = x509.RevokedCertificateBuilder(serial_number=number, revocation_date=now - DAY)
            made = made.add_revoked_certificate(revoked.build())
        new = Path(self.list + ".new")
        new.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        os.replace(new, self.list)


def context(pki: Pki, client: str) -> ssl.SSLContext:
    made = pki.context()
    made.load_cert_chain(client)
    return made


def is_refused(server, pki: Pki, client: str) -> bool:
    try:
        assert get(server, context(pki, client))[0] == 200
    except (ssl.SSLError, ConnectionError, http.client.HTTPException):
        return True
    return False


def resume(server, context: ssl.SSLContext, session: ssl.SSLSession) -> bytes:
    """What a server says to a client that resumes a session."""
    with (
        socket.create_connection(server.address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return client.recv(100)


def test_who_is_revoked_is_refused_from_the_moment_the_list_says_so(serve, pki, tmp_path):
    authority = Authority(tmp_path)
    authority.revoke()
    alice, number = authority.client("alice")
    bob, _ = authority.client("bob")
    flags = ["--ca-certs", authority.path, "--cert-reqs", "2", "--crlfile", authority.list]
    server = serve(WSGI, *pki.flags, *flags, ready=None)
    server.wait_for_log("Booting worker")
    assert json.loads(get(server, context(pki, alice))[1])["subject"] == "CN=alice"
    # Who resumes a session shows no certificate: it must not help to have had one.
    old = context(pki, alice)
    kept = connect(server, old)
    kept.request("GET", "/")
    assert kept.getresponse().read()
    session = kept.sock.session
    authority.revoke(number)
    wait_for(lambda: is_refused(server, pki, alice))
    server.wait_for_log(r"the client's certificate was refused: its authority has revoked it \(crlfile\)")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        resume(server, old, session)
    assert not is_refused(server, pki, bob)
    # A list that is old says nothing about anybody.
    authority.revoke(number, ends=-DAY)
    wait_for(lambda: is_refused(server, pki, bob))
    server.wait_for_log("the list of its authority in crlfile has expired")
    kept.request("GET", "/")
    assert kept.getresponse().read(), "what is open stays open"
    kept.close()


def test_lists_that_the_hook_has_loaded_are_looked_at(serve, pki, tmp_path):
    authority = Authority(tmp_path)
    alice, number = authority.client("alice")
    bob, _ = authority.client("bob")
    authority.revoke(number)
    config = f"""
        import ssl
        certfile, keyfile = {pki.path("cert.pem")!r}, {pki.path("cert-key.pem")!r}

        def ssl_context(config, default_ssl_context_factory):
            context = default_ssl_context_factory()
            context.load_verify_locations({authority.path!r})
            context.load_verify_locations({authority.list!r})
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
            context.verify_mode = ssl.CERT_REQUIRED
            return context
    """
    server = serve(WSGI, config=config, ready=None)
    server.wait_for_log("Booting worker")
    assert is_refused(server, pki, alice)
    assert not is_refused(server, pki, bob)


def test_a_list_that_is_none_keeps_the_server_from_starting(serve, pki):
    flags = ["--ca-certs", pki.path("ca.pem"), "--cert-reqs", "2", "--crlfile", pki.path("ca.pem")]
    server = serve(WSGI, *pki.flags, *flags, ready=None)
    assert server.wait_for_exit() == 1
    assert "crlfile: " in server.log
    assert "there is no list of revoked certificates in PEM in it" in server.log


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def test_why_a_client_was_refused_is_said_in_words(serve, pki, tmp_path):
    """A certificate of version 1 (as `openssl x509 -req` made them until OpenSSL 3.2), one of nobody's, none at all."""
    authority = Authority(tmp_path)
    key = tmp_path / "authority-key.pem"
    own = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(authority.key.private_bytes(*own))
    old = tmp_path / "old.pem"
    csr, certificate = str(tmp_path / "old.csr"), tmp_path / "old.crt"
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(old)]
    signer = ["-CA", authority.path, "-CAkey", str(key), "-set_serial", "7", "-days", "9"]
    openssl("req", *new_key, "-subj", "/CN=old", "-out", csr)
    openssl("x509", "-req", "-in", csr, *signer, "-out", str(certificate))
    if x509.load_pem_x509_certificate(certificate.read_bytes()).version != x509.Version.v1:
        # Without the extensions that the system's configuration asks for.
        plain = tmp_path / "plain.cnf"
        plain.write_text("[req]\ndistinguished_name = name\n[name]\n")
        openssl("req", "-config", str(plain), "-x509", "-x509v1", "-in", csr, *signer, "-out", str(certificate))
    with old.open("ab") as file:
        file.write(certificate.read_bytes())
    server = serve(WSGI, *pki.flags, "--ca-certs", authority.path, "--cert-reqs", "2", ready=None)
    server.wait_for_log("Booting worker")
    for client, reason in [
        (str(old), "it is of version 1; clients need one of version 3 (X.509v3)"),
        (pki.path("alice.pem"), "no authority in ca_certs has made it, or what leads to one was not sent along"),
    ]:
        assert is_refused(server, pki, client)
        server.wait_for_log(f"TLS failed: the client's certificate was refused: {re.escape(reason)}")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        get(server, pki.context())
    server.wait_for_log("TLS failed: the client showed no certificate, and cert_reqs = 2 asks for one")
    # A client that does not trust us.
    with pytest.raises(ssl.SSLError):
        get(server, ssl.create_default_context())
    server.wait_for_log("TLS failed: the client gave up: unknown CA")
