"""With TensorFlow on the machine: the builder as it comes, and our way, read the same.

test_tfds.py is about machines without it.
"""

import pytest

from experiments.data import tfds

pytestmark = pytest.mark.interop("tensorflow")


def test_the_builder_prepares_it_by_itself_and_it_is_read_back(
    seed_downloads, archive, reviews, tfds_dir
):
    datasets = pytest.importorskip("tensorflow_datasets")
    seed_downloads(archive)
    builder = datasets.builder("imdb_reviews", data_dir=tfds_dir)
    builder.download_and_prepare(
        download_dir=tfds_dir / "downloads", file_format="array_record"
    )
    for name, (texts, labels) in tfds.read().items():
        assert sorted(zip(labels, texts, strict=True)) == sorted(reviews[name])


def test_our_way_reads_the_same(seed_downloads, archive, reviews):
    seed_downloads(archive)
    for name, (texts, labels) in tfds.read().items():
        assert sorted(zip(labels, texts, strict=True)) == sorted(reviews[name])
