"""An epoch of IMDB, the same model in several libraries: `python -m benchmarks.epoch`.

Everything but the library is shared: the reviews, their batches and order, the initial
weights, the optimizer. The model is that of `experiments.sentiment.Config`, which reads
words alone, without its dropout, whose random numbers no two libraries draw alike::

    embedding -> LSTM -> mean and maximum of the valid steps -> head

A library's file has a function ``build(epoch, device) -> Trainer``, run in a process of
its own.
"""

import dataclasses
from collections.abc import Callable
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from benchmarks.peers import Peer
from experiments.data import BatchSchedule, Bucket, Segment
from experiments.sentiment import STEPS_PER_SEGMENT, Config, load

CONFIG = Config()

TRAINERS = MappingProxyType(
    {
        "manual": Peer("own", options={"gradient": "manual"}, ours=True),
        "automatic": Peer("own", options={"gradient": "automatic"}, ours=True),
        "flax": Peer("flax_model", ("flax",)),
        "torch": Peer("torch_model", ("torch",)),
    }
)
"""Who is compared. "manual" is what the others' times are divided by."""


class Trainer(NamedTuple):
    """A model in training.

    Attributes:
        train: runs a segment of steps and waits for it; the loss of each.
        predict: the logits of a bucket of validation reviews, from the weights' moving
            average.
    """

    train: Callable[[Segment], np.ndarray]
    predict: Callable[[Bucket], np.ndarray]


class Weights(NamedTuple):
    """The initial weights, in `lstm_jax`'s layout and order.

    Attributes:
        embedding: (V, D).
        Wx: (D, 4H).
        Wh: (H, 4H).
        b: (4H,).
        head: (2H,), for the mean, then for the maximum.
    """

    embedding: np.ndarray
    Wx: np.ndarray
    Wh: np.ndarray
    b: np.ndarray
    head: np.ndarray


class Epoch(NamedTuple):
    """What is trained on, the same in every process.

    Attributes:
        weights: to begin with.
        train: buckets of training reviews.
        validation: buckets of validation reviews.
        segments: the steps of the epoch, in order.
    """

    weights: Weights
    train: tuple[Bucket, ...]
    validation: tuple[Bucket, ...]
    segments: tuple[Segment, ...]

    @property
    def total_steps(self) -> int:
        """The number of batches."""
        return len(self.segments) * STEPS_PER_SEGMENT

    @property
    def warmup_steps(self) -> int:
        """Those in which the learning rate rises."""
        return int(CONFIG.warmup * self.total_steps)


def load_trainer(name: str, epoch: Epoch, device: str) -> Trainer:
    """Imports a library's file and builds its model, on "cpu" or "gpu"."""
    peer = TRAINERS[name]
    module = import_module(f"benchmarks.epoch.{peer.module}")
    return module.build(epoch, device, **peer.options)


def make_epoch(reviews: int | None) -> Epoch:
    """Reads the reviews, all or the first few, and draws the weights.

    Raises:
        ValueError: they are too few for two segments of one length.
    """
    data = load(dataclasses.replace(CONFIG, reviews=reviews))
    schedule = BatchSchedule(
        sizes=tuple(len(bucket.labels) for bucket in data.train),
        batch_size=CONFIG.batch_size,
        steps_per_segment=STEPS_PER_SEGMENT,
        seed=CONFIG.seed,
    )
    segments = schedule.epoch(0)
    if len(segments) == len({segment.bucket for segment in segments}):
        raise ValueError(
            f"reviews must be enough for two segments of {STEPS_PER_SEGMENT} batches "
            f"of {CONFIG.batch_size}, alike in length; got {reviews}"
        )
    return Epoch(
        weights=draw_weights(data.encoded.tokenizer.vocabulary_size),
        train=data.train,
        validation=data.evaluated["validation"][1],
        segments=segments,
    )


def draw_weights(vocabulary_size: int) -> Weights:
    """Normal weights, of variance 1 / fan-in in the products; the forget bias is 1."""
    generator = np.random.default_rng(CONFIG.seed)
    D, H = CONFIG.embedding_size, CONFIG.hidden_size

    def draw(*shape: int, scale: float) -> np.ndarray:
        return scale * generator.standard_normal(shape, dtype=np.float32)

    return Weights(
        embedding=draw(vocabulary_size, D, scale=0.1),
        Wx=draw(D, 4 * H, scale=D**-0.5),
        Wh=draw(H, 4 * H, scale=H**-0.5),
        b=np.repeat(np.array([0, 1, 0, 0], np.float32), H),
        head=draw(2 * H, scale=(2 * H) ** -0.5),
    )
