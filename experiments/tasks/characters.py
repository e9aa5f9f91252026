"""A language model of characters, trained by truncated backpropagation through time.

The text is read in streams, side by side, a segment a step. The state at the end of a
segment is the state at the beginning of the next; gradients end at its beginning
(Williams & Peng, 1990; Mikolov et al., 2010). It is measured in bits a character on
text that comes after what was trained on, and then it writes some of its own.
"""

import math
import re
import sys
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from experiments.checks import LARGEST, at_least, check_seed, within
from experiments.data import (
    Characters,
    characters,
    decode_text,
    numbers_of,
    read_text,
    reference_manual,
    streams,
)
from experiments.tasks.experiment import Experiment, Loaded
from experiments.tasks.networks import Network, answer, gradient_of, init_network, read
from experiments.tasks.seeds import Data, Scorer, Task, Trained, Training
from lstm_jax.cell import Cell
from lstm_jax.engine import step
from lstm_jax.files import write_whole


@dataclass(frozen=True)
class Config(Training):
    """What a run follows from.

    Attributes:
        text: a file in UTF-8, or "-" for standard input; the reference manual of this
            Python if not given.
        segment: steps that gradients go back through.
        embedding_size: the size of a character's vector.
        prompt: what the samples go on from; the first word of the text if not given.
        sample: characters to write.
        temperature: what scores are divided by when writing: below 1, more certain.
    """

    cells: tuple[str, ...] = ("lstm", "gru", "rnn_tanh")
    steps: int = 2000
    evaluations: int = 10
    hidden_size: int = 128
    learning_rate: float = 5e-3
    text: str | None = None
    segment: int = 50
    embedding_size: int = 32
    prompt: str | None = None
    sample: int = 300
    temperature: float = 0.7


PRESETS = {
    "default": Config(),
    "quick": Config(steps=300, evaluations=3, hidden_size=64),
    "large": Config(steps=8000, evaluations=20, hidden_size=256, segment=100),
}

VALIDATION_STREAMS, TEST_STREAMS = 16, 1


class Model(NamedTuple):
    """Parameters.

    Attributes:
        embedding: a vector for each character, (V, D).
        network: from vectors to the scores of the next character, (V,).
    """

    embedding: Array
    network: Network


def load(config: Config) -> Data:
    """Numbers of characters as streams, (streams, steps); testing reads in one.

    Raises:
        OSError: the text cannot be read.
        ValueError: it is empty, not UTF-8, or too short.
    """
    text = read_characters(config)
    if (letters := len(text.train)) < config.batch_size * (config.segment + 1):
        raise ValueError(
            f"the text is too short: {letters} letters to train on, and a step reads "
            f"{config.batch_size} times {config.segment}; lower --batch-size or "
            "--segment"
        )
    parts = text.train, text.validation, text.test
    counts = config.batch_size, VALIDATION_STREAMS, TEST_STREAMS
    return Data(
        *(
            streams(part, min(count, len(part) // 2))
            for part, count in zip(parts, counts, strict=True)
        )
    )


def read_characters(config: Config) -> Characters:
    """The text that a config names.

    Raises:
        OSError, ValueError: as `load`.
    """
    if config.text is None:
        return characters(reference_manual())
    if config.text == "-":
        return characters(standard_input())
    return characters(read_text(Path(config.text)))


@cache
def standard_input() -> str:
    """What standard input holds, which is read once."""
    return decode_text(sys.stdin.buffer.read(), "standard input")


def init_model(cell: Cell, config: Config, size: int, key: Array) -> Model:
    """Draws parameters for an alphabet of so many characters."""
    key_embedding, key_network = jax.random.split(key)
    inputs = config.embedding_size
    return Model(
        0.1 * jax.random.normal(key_embedding, (size, inputs)),
        init_network(cell, inputs, config.hidden_size, size, key_network),
    )


def nats(cell: Cell, model: Model, state: Any, text: Array) -> tuple[Array, Any]:
    """The mean cross-entropy of each next character of (B, L), and the state after.

    The last character is an answer only: L - 1 steps are read.
    """
    xs = model.embedding[text[:, :-1].T]
    outputs, state = read(cell, model.network, xs, state=state)
    losses = optax.softmax_cross_entropy_with_integer_labels(
        answer(model.network, outputs), text[:, 1:].T
    )
    return losses.mean(), state


def make_task(config: Config, cell: Cell, data: Data) -> Task:
    """Reads the streams a segment a step, over and over.

    Raises:
        ValueError: a number is out of range, or the prompt is empty or has letters that
            the text has not.
    """
    at_least(1, segment=config.segment, sample=config.sample)
    at_least(1, embedding_size=config.embedding_size)
    check_temperature(config.temperature)
    encoded_prompt(config, read_characters(config))
    size = alphabet_size(data)
    segments = (data.train.shape[1] - 1) // config.segment
    if segments < 1:
        raise ValueError(f"segment: {config.segment} is longer than the streams")

    def unread(model: Model, batch: int) -> Any:
        return cell.initial_state(model.network.cell, (batch,))

    def loss(model: Model, carry: Any, key: Array, train: Array) -> Any:
        del key
        number, state = carry
        fresh = unread(model, len(train))  # a new pass has read nothing
        state = jax.tree.map(lambda f, s: jnp.where(number == 0, f, s), fresh, state)
        start = number * config.segment
        text = lax.dynamic_slice_in_dim(train, start, config.segment + 1, axis=1)
        value, state = nats(cell, model, state, text)
        return value, ((number + 1) % segments, state)

    def evaluate(model: Model, split: Array) -> dict[str, Array]:
        value, _ = nats(cell, model, unread(model, len(split)), split)
        return {"bits_per_character": value / math.log(2)}

    return Task(
        init=partial(init_model, cell, config, size),
        start=lambda model: (
            jnp.zeros((), jnp.int32),
            unread(model, config.batch_size),
        ),
        loss=loss,
        evaluate=evaluate,
    )


# --- writing ----------------------------------------------------------------------


def write(
    cell: Cell,
    model: Model,
    key: Array,
    prompt: Array,
    length: int,
    temperature: float | Array,
) -> Array:
    """Draws `length` characters that follow the prompt, (n,), one after another."""
    _, state = read(cell, model.network, model.embedding[prompt[:-1], None])

    def draw(carry: tuple[Any, Array], key: Array) -> tuple[tuple[Any, Array], Array]:
        state, last = carry
        x = model.embedding[last[None]]
        state = step(cell, model.network.cell, state, x, gradient=gradient_of(cell))
        scores = answer(model.network, state[0][0]) / temperature
        drawn = jax.random.categorical(key, scores).astype(last.dtype)
        return (state, drawn), drawn

    keys = jax.random.split(key, length)
    return lax.scan(draw, (state, prompt[-1]), keys)[1]


def encoded_prompt(config: Config, text: Characters) -> np.ndarray:
    """The numbers of the prompt's letters, (n,).

    Raises:
        ValueError: there are none, or some that the text has not.
    """
    if config.prompt is None:
        given = text.decode(text.train[:100])
        return text.encode((re.findall(r"\S+\s?", given) or [given[:1]])[0])
    return encoded(config.prompt, text.alphabet)


def encoded(prompt: str, alphabet: str) -> np.ndarray:
    """The numbers of a prompt's letters, (n,).

    Raises:
        ValueError: there are none, or some that are not in the alphabet.
    """
    if not prompt:
        raise ValueError("prompt must have at least 1 letter")
    return numbers_of(prompt, alphabet)


def write_samples(
    config: Config, cell: Cell, data: Data, trained: Trained, folder: Path
) -> None:
    """Writes sample.txt: what the network of each seed goes on from the prompt with."""
    del data
    text = read_characters(config)
    numbers = encoded_prompt(config, text)
    prompt = jnp.asarray(numbers)

    @jax.jit
    def ask(models: Model) -> Array:
        def one(model: Model) -> Array:
            key = jax.random.key(0)
            return write(cell, model, key, prompt, config.sample, config.temperature)

        return lax.map(one, models)

    said = [
        f"--- {cell.name}, seed {seed} ---\n{text.decode(np.append(numbers, row))}\n\n"
        for seed, row in enumerate(np.asarray(ask(trained.params)))
    ]
    write_whole(folder / "sample.txt", "".join(said).encode())


def go_on(
    loaded: Loaded, prompt: str, length: int, temperature: float, seed: int
) -> str:
    """What a trained network goes on from a prompt with, the prompt before it.

    Raises:
        ValueError: a number is out of range, or the prompt is empty or has letters that
            the text had not.
    """
    within(1, LARGEST, length=length)
    check_seed(seed)
    check_temperature(temperature)
    alphabet = loaded.about["alphabet"]
    given = loaded.params, jax.random.key(seed), encoded(prompt, alphabet)
    ask = jax.jit(write, static_argnums=(0, 4))
    found = ask(loaded.cell, *given, length, temperature)
    return prompt + "".join(alphabet[n] for n in np.asarray(found))


def check_temperature(temperature: float) -> None:
    """Raises ValueError where a temperature is not above 0, or not finite."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above 0; got {temperature}")


def scorer(config: Config, cell: Cell, about: dict[str, Any]) -> Scorer:
    """Gives the bits a character that a text needs, of at least 2 known letters."""
    alphabet = about["alphabet"]

    def score(model: Model, text: str) -> float:
        at_least(2, letters=len(text))
        numbers = encoded(text, alphabet)[None]
        state = cell.initial_state(model.network.cell, (1,))
        found, _ = jax.jit(nats, static_argnums=0)(cell, model, state, numbers)
        return float(found) / math.log(2)

    return Scorer(partial(init_model, cell, config, len(alphabet)), score)


# --- what to hold it against ------------------------------------------------------


def alphabet_size(data: Data) -> int:
    """One more than the highest number."""
    return 1 + max(int(part.max()) for part in data)


def unigram_bits(data: Data) -> float:
    """Bits a character of whoever knows only how frequent each is in training.

    Every count is one higher (Laplace), so that unseen characters cost no infinity.
    """
    counts = 1 + np.bincount(data.train.ravel(), minlength=alphabet_size(data))
    return float(-np.log2(counts / counts.sum())[data.test].mean())


EXPERIMENT = Experiment(
    name="characters",
    description=__doc__,
    presets=PRESETS,
    load=load,
    make_task=make_task,
    measure="bits_per_character",
    references=lambda config: {"letter frequencies": unigram_bits(load(config))},
    scorer=scorer,
    source=lambda config: {"text_sha256": read_characters(config).sha256},
    about=lambda config, data: {"alphabet": read_characters(config).alphabet},
    given=lambda config, word: word,
    finish=write_samples,
)
