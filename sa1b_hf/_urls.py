"""URLs that keep their signature to themselves; `links` makes these names public."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from .errors import ConfigError, LinksError

__all__ = ["SignedUrl", "is_signed", "mask_url"]

_SIGNATURE_KEYS = frozenset(
    [
        *("oh", "oe"),  # Meta's CDN
        *("x-amz-signature", "x-amz-security-token", "x-goog-signature"),
        *("signature", "policy", "key-pair-id"),  # CloudFront
        *("sig", "token", "access_token"),
    ]
)
_KEYS = "|".join(re.escape(key) for key in sorted(_SIGNATURE_KEYS))

# Quantifiers are bounded where a hostile text could make them crawl.
_URL = re.compile(r"([a-z0-9+.-]{1,30}://)(?:[^\s/\"<>?#]*@)?([^\s\"<>?#]*)(?:[?#][^\s\"<>]*)?", re.IGNORECASE)
_BARE_QUERY = re.compile(r"\?[\w%.~\[\]-]{1,100}=[^\s\"<>]*")
_BARE_KEY = re.compile(rf"\b({_KEYS})=(?!…)[^\s&\"<>]+", re.IGNORECASE)
_TRAILING = re.compile(r"[)\]}'`,.;:!]*\Z")


def mask_url(text: object) -> str:
    """Mask the query and credentials of every URL in a text.

    Parameters
    ----------
    text
        A URL, or a message that may quote some; anything else is turned into ``str`` first.

    Returns
    -------
    str
        The text with scheme, host and path of each URL, and ``?…`` for the rest. Queries of relative URLs and lone
        signature parameters (``oh=…``) are masked too, as HTTP libraries quote them so. When in doubt, more is masked.

    Examples
    --------
    >>> mask_url("GET https://example.org/sa_000020.tar?oh=00_AYD&oe=6981: refused")
    'GET https://example.org/sa_000020.tar?…: refused'

    """
    masked = _URL.sub(_masked_match, str(text))
    masked = _BARE_QUERY.sub(lambda match: "?…" + _trailing(match.group()), masked)
    return _BARE_KEY.sub(r"\1=…", masked)


def _masked_match(match: re.Match[str]) -> str:
    scheme, host_and_path = match.groups()
    has_query = match.end() > match.end(2)
    return f"{scheme}{host_and_path}{'?…' + _trailing(match.group()) if has_query else ''}"


def _trailing(text: str) -> str:
    """Give back the punctuation after a URL, which belongs to the sentence."""
    found = _TRAILING.search(text[-8:])
    return found.group() if found else ""


def is_signed(url: str) -> bool:
    """Tell whether a URL's query looks like a signature or a token, which must not be shown or stored.

    Examples
    --------
    >>> is_signed("https://example.org/a.tar?oh=00_AYD&oe=6981"), is_signed("https://example.org/a.tar?page=2")
    (True, False)

    """
    return any(key in _SIGNATURE_KEYS for key in _query(url))


class SignedUrl:
    """A URL whose query and credentials only `reveal` shows.

    ``str``, ``repr``, formatting, logging and JSON show scheme, host and path. Two are equal when their full URLs are.
    Pickling writes no secret: what `reload` tells how to find again is found again at the first `reveal` after
    unpickling; a URL without query or credentials is pickled as it is; any other cannot be pickled.

    Parameters
    ----------
    url
        The full URL.
    reload
        Picklable function without arguments that gives the full URL again in another process.
    """

    # The URL lives in a closure, so that no attribute, slot or `vars()` holds it.
    __slots__ = ("_masked", "_reload", "_reveal")

    _masked: str
    _reload: Callable[[], str] | None
    _reveal: Callable[[], str]

    def __init__(self, url: str, *, reload: Callable[[], str] | None = None) -> None:
        _set_up(self, _mask_whole(url), reload, lambda: url)

    def reveal(self) -> str:
        """Give the full URL, to be handed to the HTTP client and nowhere else.

        Raises
        ------
        LinksError
            After unpickling: the links file is gone, or has no link for this shard any more.
        """
        return self._reveal()

    @property
    def path(self) -> str:
        """Path part of the URL: the same in every links file, while the query changes."""
        return "/" + self._masked.removesuffix("?…").partition("://")[2].partition("/")[2]

    @property
    def expires_at(self) -> datetime | None:
        """When the signature ends, in UTC; None if the URL does not say.

        Notes
        -----
        Meta's CDN: ``oe``, a hexadecimal Unix time. S3 and Google: ``X-Amz-Date`` plus ``X-Amz-Expires`` seconds
        (``X-Goog-…``). CloudFront: ``Expires``, a decimal Unix time.
        """
        return _expiry(_query(self.reveal()))

    def is_expired(self, now: datetime | None = None) -> bool:
        """Tell whether the signature's time is over at `now` (timezone-aware; the present by default)."""
        now = now or datetime.now(timezone.utc)
        if now.tzinfo is None:
            raise ConfigError(f"now: expected a timezone-aware datetime, found {now!r}; add tzinfo=timezone.utc")
        expires_at = self.expires_at
        return expires_at is not None and now >= expires_at

    def __str__(self) -> str:
        return self._masked

    def __repr__(self) -> str:
        return f"SignedUrl({self._masked!r})"

    def __format__(self, spec: str) -> str:
        return format(self._masked, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SignedUrl):
            return NotImplemented
        return self._masked == other._masked and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self._masked)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"SignedUrl is immutable, {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"SignedUrl is immutable, {name!r} cannot be deleted")

    def __copy__(self) -> SignedUrl:
        return self

    def __deepcopy__(self, memo: object) -> SignedUrl:
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        if self._reload is not None:
            return _from_reference, (self._masked, self._reload)
        if self._masked == self.reveal():
            return SignedUrl, (self._masked,)
        raise LinksError(
            f"{self._masked}: a signed URL is never pickled, or its signature would end up in caches and logs; "
            "pass links=<path of a links file>, which other processes read for themselves"
        )


def _set_up(url: SignedUrl, masked: str, reload: Callable[[], str] | None, reveal: Callable[[], str]) -> None:
    object.__setattr__(url, "_masked", masked)
    object.__setattr__(url, "_reload", reload)
    object.__setattr__(url, "_reveal", reveal)


def _from_reference(masked: str, reload: Callable[[], str]) -> SignedUrl:
    url = SignedUrl.__new__(SignedUrl)
    _set_up(url, masked, reload, reload)
    return url


def _mask_whole(url: str) -> str:
    """Mask one URL, whatever odd characters its query has."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    query = "?…" if len(bare) < len(url) else ""
    return re.sub(r"://[^/]*@", "://", bare, count=1) + query


def _query(url: str) -> dict[str, str]:
    _, _, query = url.partition("?")
    return {key.lower(): value for key, value in parse_qsl(query.partition("#")[0], keep_blank_values=True)}


def _expiry(query: Mapping[str, str]) -> datetime | None:
    try:
        if "oe" in query:
            return datetime.fromtimestamp(int(query["oe"][:12], 16), timezone.utc)
        for vendor in ("x-amz", "x-goog"):
            if f"{vendor}-date" in query:
                begin = datetime.strptime(query[f"{vendor}-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
                return begin + timedelta(seconds=int(query[f"{vendor}-expires"][:12]))
        return datetime.fromtimestamp(int(query["expires"][:12]), timezone.utc) if "expires" in query else None
    except (KeyError, ValueError, OverflowError, OSError):
        return None  # an unreadable time is no time: the server has the last word
