"""Which certificates of servers are trusted: the system's, or those of the authorities that the environment names."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.request import AbstractHTTPHandler, Request

from .errors import ConfigError

__all__ = ["ADVICE", "TlsHandler", "tls_context"]

_OF_OPENSSL: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_OF_OTHERS: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

ADVICE: Final = (
    "if a proxy or a private mirror has an authority of its own, put the path of its certificate (PEM) into the "
    "environment variable SSL_CERT_FILE"
)


class TlsHandler(AbstractHTTPHandler):
    """Opens HTTPS addresses, and loads certificates no sooner; urllib's own handler does so when it is made."""

    https_request = AbstractHTTPHandler.do_request_

    def https_open(self, request: Request) -> HTTPResponse:
        """Open an address; called by urllib."""
        connection: Any = HTTPSConnection
        return self.do_open(connection, request, context=tls_context())


def tls_context() -> ssl.SSLContext:
    """Give the settings for HTTPS connections: certificates and host names are always checked.

    OpenSSL itself looks at ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``; where these are not set, ``REQUESTS_CA_BUNDLE`` and
    ``CURL_CA_BUNDLE``, which requests and curl use, are looked at too.

    Raises
    ------
    ConfigError
        One of these names something that holds no certificates.

    """
    environment = tuple(os.environ.get(name) for name in (*_OF_OPENSSL, *_OF_OTHERS))
    return _make_context(environment)


@lru_cache(maxsize=4)
def _make_context(environment: tuple[str | None, ...]) -> ssl.SSLContext:
    """Loading the system's certificates takes some 20 ms, and a download connects often."""
    values = dict(zip((*_OF_OPENSSL, *_OF_OTHERS), environment, strict=True))
    name = (
        None if any(values[name] for name in _OF_OPENSSL) else next((name for name in _OF_OTHERS if values[name]), None)
    )
    bundle = values[name] if name else None
    is_folder = bundle is not None and Path(bundle).is_dir()
    try:
        context = ssl.create_default_context(cafile=None if is_folder else bundle, capath=bundle if is_folder else None)
    except OSError as error:
        raise ConfigError(f"{name}: expected a file of certificates (PEM), found {bundle}: {error.strerror}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context
