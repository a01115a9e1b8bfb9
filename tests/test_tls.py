"""HTTPS: certificates are checked, private authorities can be named, and drops resume as without TLS."""

from __future__ import annotations

import ssl

import pytest
from support.downloading import NAME, PATH, PIECE, fetch, hurry, shard_bytes
from support.misbehaving_server import Answer, MisbehavingServer

from sa1b_hf._tls import tls_context
from sa1b_hf.errors import ConfigError, SourceError
from sa1b_hf.source import open_shard
from sa1b_hf.transport import open_raw

trustme = pytest.importorskip("trustme")

NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    hurry(monkeypatch)
    for name in (*NAMES, "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return shard_bytes(tmp_path_factory.mktemp("body"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority that nobody knows, and the path of its certificate."""
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return ca, path


def serve(authority, name: str = "127.0.0.1") -> MisbehavingServer:
    """Give a server whose certificate is for a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert(name).configure_cert(context)
    return MisbehavingServer(context)


def test_unknown_authorities_are_refused(authority, body, tmp_path):
    """Neither a download nor a stream sends a request to whoever cannot prove its name, and the way out is told."""
    with serve(authority) as server:
        url = server.add(PATH, body)
        for attempt in (lambda: fetch(tmp_path, url), lambda: open_raw(url)):
            with pytest.raises(SourceError, match=r"certificate is not trusted: .*SSL_CERT_FILE") as caught:
                attempt()
            assert caught.value.reason == "untrusted-certificate"
        assert server.requests == []
    assert not (tmp_path / f"{NAME}.tar").exists()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_authorities_can_be_named(variable, authority, body, tmp_path, monkeypatch):
    """The environment variables of OpenSSL, requests and curl are honoured, over drops and several connections."""
    monkeypatch.setenv(variable, str(authority[1]))
    with serve(authority) as server:
        cuts = [Answer(), Answer(cut_after=2 * PIECE), Answer(cut_after=1000, cut_how="reset")]
        url = server.add(PATH, body, script=[*cuts, Answer(cut_after=PIECE, cut_how="stall")])
        assert fetch(tmp_path, url, connections=3).status == "complete-unverified"
        assert (tmp_path / f"{NAME}.tar").read_bytes() == body
        with open_shard(url) as cursor:
            assert cursor.compression


def test_names_are_compared(authority, body, tmp_path, monkeypatch):
    """A trusted certificate of another host is refused."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[1]))
    with serve(authority, "example.org") as server:
        with pytest.raises(SourceError, match="mismatch") as caught:
            fetch(tmp_path, server.add(PATH, body))
        assert caught.value.reason == "untrusted-certificate"
        assert server.requests == []


def test_settings(authority, tmp_path, monkeypatch):
    """Checks are on; OpenSSL's variables come first; a file that is none is named; folders of certificates are taken."""
    context = tls_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert tls_context() is context
    monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match="CURL_CA_BUNDLE: expected a file of certificates"):
        tls_context()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    tls_context()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[1]))
    assert len(tls_context().get_ca_certs()) == 1


def test_plain_http_needs_no_certificates(body, tmp_path, monkeypatch):
    """Certificates are loaded for HTTPS only: that takes time, and a wrong setting concerns nobody else."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with MisbehavingServer() as server:
        fetch(tmp_path, server.add(PATH, body))
    with pytest.raises(ConfigError, match="REQUESTS_CA_BUNDLE"):
        open_raw("https://127.0.0.1:9/sa_000000.tar")
