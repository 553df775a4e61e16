"""The hook ``ssl_context``: what is taken over, and what keeps the server from starting."""

from __future__ import annotations

import ssl
import textwrap

import pytest

from oxicorn import tls
from oxicorn.config import Config
from oxicorn.errors import ConfigError
from tests.tls.client import get

#: Options that Python advises against, and people set.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.OP_NO:DeprecationWarning")

HELLO = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", "5")])
        return [environ["wsgi.url_scheme"].encode().ljust(5)]
"""


def wanted(hook, pki):
    cfg = Config()
    cfg.set("certfile", pki.path("cert.pem"))
    cfg.set("keyfile", pki.path("cert-key.pem"))
    cfg.set("ssl_context", hook)
    return tls._of_context(cfg)


def test_the_example_of_gunicorns_documentation(pki):
    def hook(conf, factory):
        context = factory()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    found = wanted(hook, pki)
    assert (found.least_version, found.most_version, found.client_mode) == ("1.3", "1.3", 0)
    (certificate,) = found.certificates
    assert certificate[:2] == (pki.path("cert.pem"), pki.path("cert-key.pem"))


def test_a_context_of_ones_own(pki):
    certificate, key = pki.issue("own", "localhost")

    def hook(conf, factory):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(pki.path("ca.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TLSv1_3
        context.set_ciphers("ECDHE+CHACHA20")
        return context

    found = wanted(hook, pki)
    assert found.certificates[0][:2] == (certificate, key)
    assert (found.client_mode, found.most_version) == (2, "1.2")
    assert "BEGIN CERTIFICATE" in found.more_authorities
    assert {name for name in found.ciphers if not name.startswith("TLS_")} == {
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    }
    assert ssl.SSLContext.load_cert_chain is ssl._ssl._SSLContext.load_cert_chain


def with_callback(conf, factory):
    context = factory()
    context.sni_callback = lambda *_: None
    return context


def without_certificate(conf, factory):
    return ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)


def old(conf, factory):
    context = factory()
    context.options |= ssl.OP_NO_TLSv1_3 | ssl.OP_NO_TLSv1_2
    return context


def failing(conf, factory):
    raise KeyError("who")


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        (with_callback, "has a sni_callback; name further certificates with sni_certificates"),
        (without_certificate, "was given no certificate while the hook ran"),
        (old, "allows no version of TLS that is offered"),
        (failing, "ssl_context: KeyError: 'who'"),
        (lambda conf, factory: None, "ssl_context: it returned None, which is no ssl.SSLContext"),
    ],
)
def test_what_cannot_be_taken_over_is_refused(pki, hook, reason):
    with pytest.raises(ConfigError, match=reason):
        wanted(hook, pki)


def test_served_as_the_hook_says_or_not_at_all(serve, pki):
    config = """
        import ssl

        def ssl_context(config, default_ssl_context_factory):
            context = default_ssl_context_factory()
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            {more}
            return context
    """
    server = serve(HELLO, *pki.flags, config=textwrap.dedent(config).format(more="pass"))
    assert get(server, pki.context()) == (200, "https")
    old = pki.context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        get(server, old)
    more = "context.sni_callback = print"
    server = serve(HELLO, *pki.flags, config=textwrap.dedent(config).format(more=more), ready=None)
    assert server.wait_for_exit() == 1
    assert "the context cannot be taken over, it has a sni_callback" in server.log


# Lists of ciphers, in OpenSSL's language.


def test_ciphers(pki):
    assert tls._cipher_names(None) is None
    everything = tls._cipher_names("HIGH:!aNULL:!MD5")
    assert set(everything) == set(tls._native.offered_ciphers())
    mozilla = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256"
    assert tls._cipher_names(mozilla) == mozilla.split(":")
    assert tls._cipher_names("TLS_AES_128_GCM_SHA256") == ["TLS_AES_128_GCM_SHA256"]
    with pytest.raises(ConfigError, match=r"none of 'AES128-SHA' is offered; with TLS 1.2 are ECDHE-"):
        tls._cipher_names("AES128-SHA")
    with pytest.raises(ConfigError, match="OpenSSL knows no suite of 'NONSENSE'"):
        tls._cipher_names("NONSENSE")
