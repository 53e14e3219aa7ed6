"""Names to keys. Every key of a store is made here, and every name is checked here."""

import re

from digitrec.errors import UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MANIFEST = "manifest.json"
ATTEMPTS = "_attempts"
"""Inside a folder of predictions: what a run has finished and not published yet."""
LANDED, PENDING, LEASES, TRAININGS, LOGS = "landed", "pending", "_leases", "_training", "logs"
NAME_DIGITS = 16
STEM_MAX = 64 - 1 - NAME_DIGITS
DIGEST_DIGITS = 16
"""Of a data file's SHA-256 in its name: two contents of one name are as unlikely as anything in this world."""


def check_name(name: str, what: str = "dataset") -> str:
    """Return `name` if it may name a folder, else raise `UsageError`."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no {what} name: expected 1 to 64 of a-z 0-9 _ -, the first a letter or digit")
    return name


def name_from(stem: str, digest: str) -> str:
    """Return the name of what was given none: a stem (cut to 47, what a name cannot hold replaced), then 16 digits of
    the digest of its request. With 16 digits, a million names of one stem collide once in 37 million stores.
    """
    clean = re.sub(r"[^a-z0-9_-]", "-", stem.lower())[:STEM_MAX].lstrip("_-") or "data"
    return check_name(f"{clean}-{digest[:NAME_DIGITS]}")


def dataset_folder(name: str) -> str:
    return f"datasets/{check_name(name)}"


def model_folder(version: str) -> str:
    return f"models/{check_name(version, 'model version')}"


def predictions_folder(dataset: str, version: str, variant: str) -> str:
    check_name(dataset)
    check_name(version, "model version")
    return f"predictions/{dataset}/{version}.{check_name(variant, 'variant')}"


def champion_folder() -> str:
    return "models/champion"


def landed_path(digest: str) -> str:
    return f"{LANDED}/{digest}.json"


def pending_key(dataset: str) -> str:
    """The note that a dataset may still have to be scored."""
    return f"{PENDING}/{check_name(dataset)}"


def source_note(stem: str, size: int) -> str:
    """The note that a dataset was made, or begun, of a source with this stem and size in bytes: where there is none,
    the source is surely new. Such a note never decides anything."""
    return f"_index/sources/{name_from(stem, f'{size:0{NAME_DIGITS}x}')}"


def training_folder(version: str) -> str:
    """Where a training keeps its checkpoints until it is published, so that `--resume VERSION` finds them."""
    return f"{TRAININGS}/{check_name(version, 'model version')}"


def logs_folder(version: str) -> str:
    """What a training's loggers write while it runs, a folder for each start. Nothing reads it back."""
    return f"{LOGS}/{check_name(version, 'model version')}"


def lease_folder(name: str) -> str:
    """The generations of a lease."""
    return f"{LEASES}/{name}"


def manifest_path(folder: str) -> str:
    return f"{folder}/{MANIFEST}"


def digest_name(stem: str, digest: str, suffix: str) -> str:
    """`shard-00000-<16 hex>.parquet`: a data file carries its own digest, so that no two contents share a name."""
    return f"{stem}-{digest[:DIGEST_DIGITS]}{suffix}"


def plain_name(path: str) -> str:
    """The name of a data file without folder and digest: `weights.safetensors`, `shard-00000.parquet`."""
    return _DIGEST.sub("", path.rpartition("/")[2])


_DIGEST = re.compile(rf"-[0-9a-f]{{{DIGEST_DIGITS}}}(?=\.|$)")
