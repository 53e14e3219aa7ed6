"""Network addresses in settings and options: one parser for each kind, so that every command reads them alike.

Also what all say alike of them: which are this machine's, which proxy leads to them, and how they are shown.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

SCHEDULER_PORT = 8786
"""Where Dask's scheduler listens unless told otherwise."""
DASK_FORM = "tls://HOST:PORT, or tcp://HOST:PORT (or HOST:PORT) on this machine"
API_FORM = "http://HOST:PORT/api or https://HOST/…"
_USER_INFO = re.compile(r"""(?<=://)\S+(?=@)|(?<![^\s'"=(])[^\s:/'"=(]+:(?!//)\S+(?=@)""")


@dataclass(frozen=True)
class Address:
    """Where a scheduler listens. `str` gives it as Dask wants it."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)


def parse_dask(text: str) -> Address:
    """Parse the address of a Dask scheduler; without a scheme it is tcp, without a port 8786.

    Raises `ValueError` that says what was expected.
    """
    problem = f"expected {DASK_FORM}"
    try:
        url = urlsplit(text if "://" in text else f"tcp://{text}")
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ValueError(f"{problem} ({error})") from None
    if url.netloc.count(":") > 1 and "[" not in url.netloc:
        raise ValueError(f"{problem}; an IPv6 address stands in brackets, as in tcp://[::1]:{SCHEDULER_PORT}")
    surplus = url.path.strip("/") or url.query or url.fragment or "@" in url.netloc or text.split() != [text]
    if url.scheme not in {"tcp", "tls"} or not host or port == 0 or surplus:
        raise ValueError(problem)
    return Address(url.scheme, host, SCHEDULER_PORT if port is None else port)


def check_api_url(text: str) -> str:
    """Return the URL of a Prefect server's REST interface as it is. Raises `ValueError` that says what was expected."""
    problem = f"expected {API_FORM}"
    try:
        url = urlsplit(text)
        _ = url.port  # a port that is no number shows when it is asked for
    except ValueError as error:
        raise ValueError(f"{problem} ({error})") from None
    if url.scheme not in {"http", "https"} or not url.hostname or text.split() != [text]:
        raise ValueError(problem)
    return text


def is_loopback(host: str) -> bool:
    """Return whether a name or IP address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def proxy_for(url: str) -> str | None:
    """Return the proxy, with its password, that the environment names for `url`; None if none leads there.

    None leads to the loopback, whatever the environment says.
    """
    from urllib.request import getproxies, proxy_bypass  # not for every command

    parts = urlsplit(url)
    if is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def mask_user(text: str) -> str:
    """Return `text` with the user and password of each URL hidden: all up to the last `@` of a word, since people write
    a `/` or an `@` of a password as it is.
    """
    return _USER_INFO.sub("***", text)
