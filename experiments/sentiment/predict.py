"""Scoring text with a trained classifier."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import ReviewTokenizer
from experiments.sentiment.config import Config
from experiments.sentiment.objective import init_params, make_model
from experiments.sentiment.training import precision
from experiments.training import Checkpoints


def read_config(folder: Path) -> Config:
    """The config of a run.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder}: there is no run here; train one first, or choose another with "
            "--name"
        )
    values = json.loads(file.read_text("utf-8"))
    return Config(**values | {"pooling": tuple(values["pooling"])})


def load_scorer(folder: Path) -> Callable[[str], float]:
    """The function from a text to its probability of "positive", from a run's folder.

    Raises:
        FileNotFoundError: the folder holds no finished run.
        ValueError: one of its files is broken.
    """
    config = read_config(folder)
    tokenizer = ReviewTokenizer.load(folder / "tokenizer.json")
    model = make_model(config, tokenizer.vocabulary_size)
    like = jax.eval_shape(partial(init_params, model), jax.random.key(0))
    params = Checkpoints(folder / "best").restore(like)
    apply = jax.jit(partial(model.apply, train=False))

    def score(text: str) -> float:
        ids = tokenizer.encode(text)[-config.max_length :]
        # Few shapes, few compilations: pad to a multiple of 100.
        tokens = np.zeros((1, -(-max(len(ids), 1) // 100) * 100), np.int32)
        tokens[0, : len(ids)] = ids
        lengths = jnp.asarray([len(ids)], jnp.int32)
        return float(jax.nn.sigmoid(apply(params, jnp.asarray(tokens), lengths))[0])

    return score


def print_scores(folder: Path, text: str) -> None:
    """Prints the verdict and the probability of a text, or of each line of stdin."""
    with precision(read_config(folder).dtype):
        score = load_scorer(folder)
        for line in sys.stdin if text == "-" else [text]:
            if line.strip():
                probability = score(line)
                verdict = "positive" if probability > 0.5 else "negative"
                print(f"{verdict}  {probability:.3f}  {line.strip()}", flush=True)
