"""Proxies: none of them can reach this machine's loopback, and what stands in the way is to be named."""

import logging
import os
from importlib.util import find_spec
from urllib.parse import urlsplit

from digitrec.addresses import mask_user, proxy_for
from digitrec.errors import Misconfigured

LOOPBACK = ("127.0.0.1", "localhost", "::1")
VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
LOG = logging.getLogger("digitrec")


def keep_off_loopback(url: str | None) -> None:
    """Let this process and its children reach the loopback without a proxy; other hosts are reached as before.

    `url` is Prefect's interface; None: on the loopback. Raises `Misconfigured` if its client cannot use the proxy that
    is set for it.
    """
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in listed.split(",") if host.strip()]
    if "*" not in hosts:
        hosts += [host for host in LOOPBACK if host not in hosts]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)
    drop_socks(url)


def drop_socks(url: str | None) -> None:
    """Unset SOCKS proxies where Prefect's client, httpx, lacks the package for them.

    It would raise an error even where it needs no proxy.
    """
    if find_spec("socksio"):
        return
    for name in VARIABLES:
        for spelled in (name, name.upper()):
            value = os.environ.get(spelled, "")
            if value.startswith("socks"):
                if url and proxy_for(url):
                    raise Misconfigured(
                        f"{spelled} is {mask_user(value)}, and Prefect's client lacks the package for it: "
                        f"pip install 'httpx[socks]', or add {urlsplit(url).hostname} to NO_PROXY"
                    )
                LOG.warning("%s is a SOCKS proxy, for which the package socksio is missing: not used", spelled)
                del os.environ[spelled]
