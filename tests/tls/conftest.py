"""Certificates, made anew for each run."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme


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
