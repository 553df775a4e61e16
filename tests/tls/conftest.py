"""Certificates, made anew for each run."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pki:
    """An authority, and what it has certified: ``cert.pem`` with ``key.pem``, and a client, ``alice.pem``."""

    directory: Path
    authority: trustme.CA

    def path(self, name: str) -> str:
        """A file's path."""
        return str(self.directory / name)

    def issue(self, name: str, *hosts: str) -> tuple[str, str]:
        """One more certificate and its key."""
        made = self.authority.issue_cert(*hosts)
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}-key.pem"
        certificate.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        made.private_key_pem.write_to_path(str(key))
        return str(certificate), str(key)

    def signed(self, key: Any, directory: Path, host: str = "localhost") -> tuple[str, str]:
        """A certificate for a key of any kind, and the key."""
        now = datetime.datetime.now(datetime.timezone.utc)
        made = x509.CertificateBuilder(
            issuer_name=self.own.subject,
            subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - DAY,
            not_valid_after=now + 30 * DAY,
        )
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        # Python 3.13 and later want it (`ssl.VERIFY_X509_STRICT`).
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.own.public_key())
        made = made.add_extension(identifier, critical=False)
        certificate, private = directory / "signed.pem", directory / "signed-key.pem"
        certificate.write_bytes(made.sign(self.own_key, hashes.SHA256()).public_bytes(Encoding.PEM))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(certificate), str(private)

    def ocsp_response(self, certificate: str) -> bytes:
        """The authority's word that a certificate is good (RFC 6960), DER."""
        now = datetime.datetime.now(datetime.timezone.utc)
        made = ocsp.OCSPResponseBuilder().add_response(
            cert=x509.load_pem_x509_certificate(Path(certificate).read_bytes()),
            issuer=self.own,
            algorithm=hashes.SHA1(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=now - DAY,
            next_update=now + DAY,
            revocation_time=None,
            revocation_reason=None,
        )
        made = made.responder_id(ocsp.OCSPResponderEncoding.HASH, self.own)
        return made.sign(self.own_key, hashes.SHA256()).public_bytes(Encoding.DER)

    @property
    def own(self) -> x509.Certificate:
        """The authority's certificate."""
        return x509.load_pem_x509_certificate(self.authority.cert_pem.bytes())

    @property
    def own_key(self) -> Any:
        """The authority's key."""
        return serialization.load_pem_private_key(self.authority.private_key_pem.bytes(), None)

    def context(self, client: str | None = None) -> ssl.SSLContext:
        """A client that trusts the authority, and shows who it is if it has a certificate."""
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        if client is not None:
            context.load_cert_chain(self.path(client))
        return context

    @property
    def flags(self) -> list[str]:
        """What turns TLS on."""
        return ["--certfile", self.path("cert.pem"), "--keyfile", self.path("cert-key.pem")]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """One authority for all tests."""
    directory = tmp_path_factory.mktemp("pki")
    pki = Pki(directory, trustme.CA())
    pki.authority.cert_pem.write_to_path(pki.path("ca.pem"))
    pki.issue("cert", "localhost", "127.0.0.1")
    alice = pki.authority.issue_cert("alice@example.org", common_name="alice", organization_name="Ox")
    alice.private_key_and_cert_chain_pem.write_to_path(pki.path("alice.pem"))
    return pki
