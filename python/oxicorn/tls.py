"""What the settings of TLS come to: files of certificates, and what a context of the user's says.

``read`` runs in a process of its own (or in ``--check-config``), which ends when it is done: keys
that it, or the hook ``ssl_context``, has read are in no memory that a worker inherits.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from oxicorn import _native
from oxicorn.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from oxicorn.config import Config

__all__ = ["default_context", "files", "read"]

#: What a client may choose from (ALPN), for what `http_protocols` says.
PROTOCOLS = {"h1": ["http/1.1", "http/1.0"], "h2": ["h2"]}
#: What `ssl_context` may not do, since nobody asks Python at a handshake.
NOT_TAKEN_OVER = "ssl_context: the context cannot be taken over, it"


_CRL = re.compile("-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


class CertificateFiles(NamedTuple):
    """A certificate as it is named."""

    certificate: str
    key: str | None = None
    ocsp: str | None = None
    passphrase: str | None = None


class Wanted(NamedTuple):
    """What is to be offered."""

    certificates: list[CertificateFiles]
    client_mode: int
    ca_certs: str | None
    more_authorities: str
    crlfile: str | None
    more_revoked: str
    least_version: str
    most_version: str
    ciphers: list[str] | None


def files(cfg: Config) -> list[str]:
    """The files whose change is a change of what is offered."""
    named = [cfg.get(name) for name in ("certfile", "keyfile", "ca_certs", "crlfile", "ocsp_file")]
    for entry in cfg.get("sni_certificates"):
        named += entry.split(",")
    password = cfg.get("keyfile_password") or ""
    if password.startswith("file:"):
        named.append(password.removeprefix("file:"))
    return [os.path.abspath(path.strip()) for path in named if path and path.strip()]


def read(cfg: Config) -> tuple[bytes, list[str], list[str]]:
    """Certificates and keys as the gateway takes them; what is to be said; the files they are from.

    Raises :exc:`ConfigError` with the reason where TLS cannot be offered as it is asked for.
    """
    wanted = _of_context(cfg) if cfg.native.is_set("ssl_context") else _of_settings(cfg)
    if wanted.client_mode not in (0, 1, 2):
        raise ConfigError(f"cert_reqs: {wanted.client_mode} is none of 0, 1, 2")
    material, notes = _native.read_certificates(*wanted, _protocols(cfg))
    named = [path for one in wanted.certificates for path in one[:3] if path]
    return material, notes, [*files(cfg), *(os.path.abspath(path) for path in named)]


def _protocols(cfg: Config) -> list[str]:
    """The protocols of ALPN, in the order of preference."""
    versions = cfg.get("http_protocols") if cfg.get("protocol") == "http" else ["h1"]
    return [name for version in versions for name in PROTOCOLS[version]]


def _of_settings(cfg: Config) -> Wanted:
    passphrase = _passphrase(cfg)
    certfile, keyfile = cfg.get("certfile"), cfg.get("keyfile")
    if not certfile:
        raise ConfigError("keyfile is set, certfile is needed too")
    first = CertificateFiles(certfile, keyfile, cfg.get("ocsp_file"), passphrase)
    return Wanted(
        [first, *_more(cfg, passphrase)],
        cfg.get("cert_reqs"),
        cfg.get("ca_certs"),
        "",
        cfg.get("crlfile"),
        "",
        cfg.get("tls_minimum_version"),
        "1.3",
        _cipher_names(cfg.get("ciphers")),
    )


def _more(cfg: Config, passphrase: str | None) -> Iterator[CertificateFiles]:
    for entry in cfg.get("sni_certificates"):
        certificate, *rest = (part.strip() or None for part in entry.split(","))
        if certificate is None or len(rest) > 2:
            raise ConfigError(
                f"sni_certificates: {entry!r} is not CERTFILE, CERTFILE,KEYFILE or "
                "CERTFILE,KEYFILE,OCSPFILE"
            )
        key, ocsp = (*rest, None, None)[:2]
        yield CertificateFiles(certificate, key, ocsp, passphrase)


def _passphrase(cfg: Config) -> str | None:
    given: str | None = cfg.get("keyfile_password")
    if given is None:
        return None
    if given.startswith("file:"):
        path = given.removeprefix("file:")
        try:
            with open(path) as file:
                return file.readline().rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"keyfile_password: {path} cannot be read: {error}") from None
    if given.startswith("env:"):
        name = given.removeprefix("env:")
        if (value := os.environ.get(name)) is None:
            raise ConfigError(f"keyfile_password: there is no {name} in the environment")
        return value
    return given


def _cipher_names(text: str | None) -> list[str] | None:
    """The suites that a list in OpenSSL's language comes to, by OpenSSL's own word."""
    if not text:
        return None
    import ssl

    tokens = [token for token in text.replace(",", ":").replace(" ", ":").split(":") if token]
    modern = [token for token in tokens if token.startswith("TLS_")]
    classic = [token for token in tokens if not token.startswith("TLS_")]
    names: list[str] = []
    if classic:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.set_ciphers(":".join(classic))
        except ssl.SSLError:
            raise ConfigError(
                f"ciphers: OpenSSL knows no suite of {':'.join(classic)!r}; "
                f"offered are {':'.join(_native.offered_ciphers())}"
            ) from None
        names = [name for name in _names_of(context) if not name.startswith("TLS_")]
    return _offered(modern + names, tokens, text)


def _names_of(context: ssl.SSLContext) -> list[str]:
    return [cipher["name"] for cipher in context.get_ciphers()]


def _offered(names: list[str], asked: list[str], text: str) -> list[str]:
    """Without those that nobody has named and nobody offers; a group of OpenSSL's has dozens."""
    offered = _native.offered_ciphers()
    kept = [name for name in names if name in offered or name.startswith("TLS_") or (name in asked)]
    if not any(name in offered or name.startswith("TLS_") for name in kept):
        raise ConfigError(
            f"ciphers: none of {text!r} is offered; with TLS 1.2 are {':'.join(offered)}"
        )
    return kept


# The hook `ssl_context`.


def default_context(cfg: Config) -> ssl.SSLContext:
    """The context that the settings describe, which the hook may ask for."""
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=cfg.get("ca_certs"))
    if cfg.get("certfile"):
        context.load_cert_chain(cfg.get("certfile"), cfg.get("keyfile"), _passphrase(cfg))
    context.verify_mode = ssl.VerifyMode(cfg.get("cert_reqs"))
    if cfg.get("tls_minimum_version") == "1.3":
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if cfg.get("ciphers"):
        context.set_ciphers(cfg.get("ciphers"))
    if cfg.get("crlfile"):
        context.load_verify_locations(cfg.get("crlfile"))
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    return context


class _Recording:
    """What contexts are told while the hook runs: they keep it to themselves."""

    def __init__(self) -> None:
        self.chains: list[tuple[ssl.SSLContext, CertificateFiles]] = []
        self.directories: list[ssl.SSLContext] = []
        self.revoked: list[tuple[ssl.SSLContext, str]] = []
        self.ciphers: list[tuple[ssl.SSLContext, str]] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Contexts are made of the class, so its methods hear all of them."""
        import ssl

        load_cert_chain = ssl.SSLContext.load_cert_chain
        set_ciphers = ssl.SSLContext.set_ciphers
        load_locations = ssl.SSLContext.load_verify_locations
        recording = self

        def hear_chain(
            self: ssl.SSLContext, certfile: Any, keyfile: Any = None, password: Any = None
        ) -> None:
            load_cert_chain(self, certfile, keyfile, password)
            recording.chains.append((self, _named(certfile, keyfile, password)))

        def hear_ciphers(self: ssl.SSLContext, ciphers: str, /) -> None:
            set_ciphers(self, ciphers)
            recording.ciphers.append((self, ciphers))

        def hear_locations(
            self: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None
        ) -> None:
            load_locations(self, cafile, capath, cadata)
            if capath is not None:
                recording.directories.append(self)
            recording.revoked += [(self, text) for text in _revocation_lists(cafile, cadata)]

        replaced = {
            "load_cert_chain": hear_chain,
            "set_ciphers": hear_ciphers,
            "load_verify_locations": hear_locations,
        }
        for name, function in replaced.items():
            setattr(ssl.SSLContext, name, function)
        try:
            yield
        finally:
            for name in replaced:
                delattr(ssl.SSLContext, name)


def _revocation_lists(cafile: Any, cadata: Any) -> list[str]:
    """The lists of revoked certificates (PEM) among what a context is to trust."""
    texts = [cadata] if isinstance(cadata, str) else []
    if cafile is not None:
        with open(cafile, encoding="latin-1") as file:
            texts.append(file.read())
    return [block for text in texts for block in _CRL.findall(text)]


def _named(certfile: Any, keyfile: Any, password: Any) -> CertificateFiles:
    if callable(password):
        password = password()
    if isinstance(password, (bytes, bytearray)):
        password = password.decode()
    key = None if keyfile is None else os.fsdecode(keyfile)
    return CertificateFiles(os.fsdecode(certfile), key, None, password)


def _of_context(cfg: Config) -> Wanted:
    import ssl

    recording = _Recording()
    with recording.listening():
        try:
            context = cfg.ssl_context(cfg, lambda: default_context(cfg))
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"ssl_context: {type(error).__name__}: {error}") from error
    if not isinstance(context, ssl.SSLContext):
        raise ConfigError(f"ssl_context: it returned {context!r}, which is no ssl.SSLContext")
    if (reason := _untranslatable(context, recording)) is not None:
        raise ConfigError(f"{NOT_TAKEN_OVER} {reason}")
    chains = [files for owner, files in recording.chains if owner is context]
    stapled = cfg.get("ocsp_file")
    certificates = [
        files._replace(ocsp=stapled if files.certificate == cfg.get("certfile") else None)
        for files in reversed(chains)
    ]
    least, most = _versions(context)
    told = [text for owner, text in recording.ciphers if owner is context]
    asks = context.verify_mode is not ssl.CERT_NONE
    authorities = context.get_ca_certs(binary_form=True) if asks else []
    return Wanted(
        [*certificates, *_more(cfg, _passphrase(cfg))],
        int(context.verify_mode),
        None,
        "".join(map(ssl.DER_cert_to_PEM_cert, authorities)),
        None,
        "\n".join(_looked_up(context, recording)),
        least,
        most,
        _offered(_names_of(context), told[-1].split(":"), told[-1]) if told else None,
    )


def _untranslatable(context: ssl.SSLContext, recording: _Recording) -> str | None:
    import ssl

    if context.sni_callback is not None:
        return "has a sni_callback; name further certificates with sni_certificates"
    if not any(owner is context for owner, _ in recording.chains):
        return "was given no certificate while the hook ran (load_cert_chain with file names)"
    if context.verify_mode is not ssl.CERT_NONE:
        if any(owner is context for owner in recording.directories):
            return "takes authorities from a directory (capath); name a file"
        if _looks_at_revoked(context) and not _looked_up(context, recording):
            return "looks at lists of revoked certificates and was given none"
    if context.maximum_version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        return "allows TLS 1.1 at most; 1.2 and 1.3 are offered"
    if _versions(context) == ("1.3", "1.2"):
        return "allows no version of TLS that is offered, which are 1.2 and 1.3"
    return None


def _looks_at_revoked(context: ssl.SSLContext) -> bool:
    import ssl

    return bool(context.verify_flags & (ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN))


def _looked_up(context: ssl.SSLContext, recording: _Recording) -> list[str]:
    """The lists that a context looks at."""
    if not _looks_at_revoked(context):
        return []
    return [text for owner, text in recording.revoked if owner is context]


def _versions(context: ssl.SSLContext) -> tuple[str, str]:
    import ssl

    off = context.options
    new = bool(off & ssl.OP_NO_TLSv1_2) or context.minimum_version is ssl.TLSVersion.TLSv1_3
    old = bool(off & ssl.OP_NO_TLSv1_3) or context.maximum_version is ssl.TLSVersion.TLSv1_2
    return ("1.3" if new else "1.2"), ("1.2" if old else "1.3")
