"""One parser for each kind of address: options, variables, `score` and `doctor` read them alike."""

import pytest

from digitrec.addresses import check_api_url, mask_user, parse_dask
from digitrec.catalog.store import Store
from tests.environment.conftest import Run

WRONG = [
    "", " ", "tcp://", "tcp://:9", "tcp://host:abc", "tcp://host:99999", "tcp://host:0", "http://host:1", "udp://host:1",
    "tcp://[::1:9", "::1:8786", "tcp://::1:8786", "tcp://host:1/path", "tcp://user@host:1", "tcp://a b:1", "host:1\n",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("tcp://host:9", "tcp://host:9"),
        ("host:9", "tcp://host:9"),
        ("host", "tcp://host:8786"),
        ("tls://host", "tls://host:8786"),
        ("tls://[2001:db8::1]:9", "tls://[2001:db8::1]:9"),
        ("[::1]:9", "tcp://[::1]:9"),
        ("[::1]", "tcp://[::1]:8786"),
        ("192.0.2.1:9", "tcp://192.0.2.1:9"),
    ],
)
def test_a_schedulers_address_in_its_forms(text: str, normal: str) -> None:
    """Without a scheme it is tcp, without a port Dask's own."""
    assert str(parse_dask(text)) == normal


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_address_says_what_one_looks_like(text: str) -> None:
    """A `ValueError` with the form that was expected."""
    with pytest.raises(ValueError, match="expected tls://HOST:PORT"):
        parse_dask(text)


@pytest.mark.parametrize(
    ("text", "loopback"), [("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("192.0.2.1:1", False)]
)
def test_what_lies_on_this_machine(text: str, loopback: bool) -> None:
    """Only there an open port may be used."""
    assert parse_dask(text).is_loopback is loopback


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:abc", "tcp://[::1:9", "tcp://127.0.0.1:99999", "::1:9"])
def test_doctor_and_score_refuse_the_same(run: Run, ready: Store, text: str) -> None:
    """From a variable it is exit 78, from an option 64, and both quote it."""
    for command in (("doctor",), ("score", "--dataset", "night")):
        ended = run("--store", ready.url, *command, DIGITREC_DASK=text)
        assert ended.code == 78, ended.lines
        assert f"DIGITREC_DASK is '{text}': expected tls://" in ended.error
    ended = run("--store", ready.url, "score", "--dataset", "night", "--dask", text)
    assert ended.code == 64, ended.lines
    assert f"--dask {text}: expected tls://" in ended.error


def test_an_address_without_a_scheme_is_taken_by_both(run: Run, ready: Store) -> None:
    """Nobody listens there: both say so, and neither says that it is no address."""
    doctor = run("--store", ready.url, "doctor", DIGITREC_DASK="127.0.0.1:9")
    assert "!! dask: tcp://127.0.0.1:9: [Errno 111] Connection refused" in doctor.out


@pytest.mark.parametrize("text", ["no", "http://", "ftp://a/api", "http://a:abc/api", "http://a b/api", "//a/api"])
def test_what_is_no_url_of_a_server(text: str) -> None:
    """A `ValueError` with the form that was expected."""
    with pytest.raises(ValueError, match="expected http://HOST:PORT/api"):
        check_api_url(text)


@pytest.mark.parametrize("text", ["http://127.0.0.1:4200/api", "https://a.example/prefect/api", "http://[::1]:1/api"])
def test_the_url_of_a_server(text: str) -> None:
    """It is given back as it is."""
    assert check_api_url(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+asyncpg://u:p/w@host:5432/db",
        "http://u:p@w@host:3128",
        "u:p/w@host:3128",
        "cannot use 'u:p@w@host:3128': refused",
        "PROXY=http://u:p@host says no",
    ],
)
def test_a_password_is_hidden_whatever_is_in_it(text: str) -> None:
    """Also one with characters that a URL would have escaped, and one without a scheme before it."""
    masked = mask_user(text)
    assert "***@host" in masked
    assert not {"p/w", "p@w", "u:p"} & {masked[at : at + 3] for at in range(len(masked))}
    assert masked.partition("***")[0] == text.partition("u:")[0]


def test_what_holds_no_password_stays() -> None:
    """Neither an address nor a mention is one."""
    for text in ("https://host:3128/a b", "tcp://127.0.0.1:8786", "flow@host", "error: at 12:30"):
        assert mask_user(text) == text


def test_a_cut_password_is_hidden() -> None:
    """A library's words are cut after their secrets are hidden: half a password would not be known for one."""
    from digitrec.foreign import WORDS, Given, _cut, _without

    text = f"{'x' * (WORDS - 12)} http://u:secret@host and secondsecret"
    assert "secret" not in _cut(_without([Given("API_KEY", "secondsecret")], text))
