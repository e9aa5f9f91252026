"""A classifier of token sequences: embedding, recurrent layers, pooling, a head."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from experiments.data import UNKNOWN_ID
from lstm_jax.cell import Cell
from lstm_jax.engine import GRADIENTS, MEMORIES, checks
from lstm_jax.layers import (
    Dropout,
    Layer,
    init_layers,
    unroll_layers,
    variational_dropout,
)


def last_state(ys: Array, lengths: Array, final: Layer) -> Array:
    """The final output of each direction: at each row's length, and at step 0."""
    del ys, lengths
    return jnp.concatenate([d[0] for d in final if d is not None], axis=-1)


def mean_over_steps(ys: Array, lengths: Array, final: Layer) -> Array:
    """The mean of the outputs of the valid steps; 0 where there is none."""
    del final  # outputs beyond the length are 0 already
    return ys.sum(axis=0) / jnp.maximum(lengths, 1).astype(ys.dtype)[:, None]


def max_over_steps(ys: Array, lengths: Array, final: Layer) -> Array:
    """The largest output of the valid steps, unit by unit; 0 where there is none."""
    del final
    valid = jnp.arange(ys.shape[0])[:, None] < lengths
    lowest = jnp.asarray(jnp.finfo(ys.dtype).min, ys.dtype)
    largest = jnp.where(valid[..., None], ys, lowest).max(axis=0, initial=lowest)
    return jnp.where((lengths > 0)[:, None], largest, jnp.zeros_like(largest))


POOLINGS: MappingProxyType[str, Callable[[Array, Array, Layer], Array]] = (
    MappingProxyType(
        {"last": last_state, "mean": mean_over_steps, "max": max_over_steps}
    )
)
"""Ways from outputs (T, B, F), lengths and the last layer's final state to (B, F)."""


def join_ratios(xs: Array, ratios: Array | None) -> Array:
    """Inputs (T, B, D) and the ratios (B, T, F) beside them, (T, B, D + F)."""
    if ratios is None or not ratios.shape[-1]:
        return xs
    return jnp.concatenate([xs, ratios.swapaxes(0, 1).astype(xs.dtype)], axis=-1)


class SequenceClassifier(nn.Module):
    """Reads sequences of tokens and tells their classes apart.

    ::

        embedding -> dropout, ratios -> layers -> pooling -> dropout -> head

    Training also replaces whole words by the unknown word (word dropout; Iyyer et
    al., 2015, section 3 leave them out), so that no single word decides alone.

    Attributes:
        vocabulary_size: ids, padding and the unknown word included.
        classes: C; for two there is one logit, that of label 1, for more there are C.
        embedding_size: D.
        ratios: F, the numbers that are read beside each token's embedding.
        hidden_size: H of each direction.
        cell: a cell, or a name of `lstm_jax.CELLS`.
        layers: recurrent layers.
        bidirectional: whether they read in both directions.
        pooling: keys of `POOLINGS`, at least one; what they give is joined.
        word_dropout: the share of words replaced in training.
        embedding_dropout: the rate of variational dropout on the embeddings.
        layer_dropout: the rate of dropout between the layers.
        variational: whether that dropout has one mask for all steps.
        head_dropout: the rate of dropout on what is pooled.
        gradient: "manual" or "automatic"; see `lstm_jax.unroll`.
        memory: see `lstm_jax.unroll`.
        dtype: of all parameters and computations.

    Raises:
        ValueError: an unknown name, or a number out of range, when it is called.
    """

    vocabulary_size: int
    classes: int = 2
    embedding_size: int = 64
    ratios: int = 0
    hidden_size: int = 64
    cell: Cell | str = "lstm"
    layers: int = 1
    bidirectional: bool = False
    pooling: tuple[str, ...] = ("mean", "max")
    word_dropout: float = 0.0
    embedding_dropout: float = 0.0
    layer_dropout: float = 0.0
    variational: bool = True
    head_dropout: float = 0.0
    gradient: str = "manual"
    memory: str = "store"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: Array,
        lengths: Array,
        ratios: Array | None = None,
        *,
        train: bool,
    ) -> Array:
        """The logit of each row's probability of label 1, (B,), or all C, (B, C).

        Args:
            tokens: (B, T) integers below the vocabulary size.
            lengths: (B,) integers from 0 to T; tokens beyond them change nothing, and
                a row of length 0 gets the logit of an empty text.
            ratios: (B, T, F); None where F is 0.
            train: whether dropout is on; it needs ``rngs={"dropout": key}``.
        """
        self._check(tokens, ratios)
        embedding = self.param(
            "embedding",
            nn.initializers.normal(0.1),
            (self.vocabulary_size, self.embedding_size),
            self.dtype,
        )
        layers = self.param("layers", self._init_layers)
        if self.is_initializing():  # the number of features is all that is needed
            features = jnp.zeros((1, self._width()), self.dtype)
        else:
            features = self._features(embedding, layers, tokens, lengths, ratios, train)
        features = nn.Dropout(self.head_dropout)(features, deterministic=not train)
        answers = 1 if self.classes == 2 else self.classes
        head = nn.Dense(answers, dtype=self.dtype, param_dtype=self.dtype, name="head")
        return head(features)[:, 0] if self.classes == 2 else head(features)

    def _width(self) -> int:
        return len(self.pooling) * self.hidden_size * (2 if self.bidirectional else 1)

    def _features(
        self,
        embedding: Array,
        layers: tuple[Layer, ...],
        tokens: Array,
        lengths: Array,
        ratios: Array | None,
        train: bool,
    ) -> Array:
        """What the head reads of each row: (B, F)."""
        words = self._drop_words(tokens) if train else tokens
        xs = embedding[words.T]
        between = None
        if train:
            xs = variational_dropout(self._key(), xs, self.embedding_dropout)
            between = Dropout(self._key(), self.layer_dropout, self.variational)
        xs = join_ratios(xs, ratios)
        ys, finals = unroll_layers(
            self.cell,
            layers,
            xs,
            lengths=lengths,
            between=between,
            gradient=self.gradient,
            memory=self.memory,
        )
        pooled = [POOLINGS[name](ys, lengths, finals[-1]) for name in self.pooling]
        return jnp.concatenate(pooled, axis=-1)

    def _key(self) -> Array:
        return self.make_rng("dropout")

    def _init_layers(self, key: Array) -> tuple[Layer, ...]:
        return init_layers(
            self.cell,
            key,
            self.embedding_size + self.ratios,
            self.hidden_size,
            layers=self.layers,
            bidirectional=self.bidirectional,
            dtype=self.dtype,
        )

    def _drop_words(self, tokens: Array) -> Array:
        dropped = jax.random.bernoulli(self._key(), self.word_dropout, tokens.shape)
        return jnp.where(dropped, jnp.asarray(UNKNOWN_ID, tokens.dtype), tokens)

    def _check(self, tokens: Array, ratios: Array | None) -> None:
        expected = (*tokens.shape, self.ratios)
        if (ratios is None and self.ratios) or (
            ratios is not None and ratios.shape != expected
        ):
            found = None if ratios is None else ratios.shape
            raise ValueError(f"ratios: expected shape {expected}, got {found}")
        checks.as_cell(self.cell, self.gradient)
        checks.check_choice("gradient", self.gradient, GRADIENTS)
        checks.check_choice("memory", self.memory, MEMORIES)
        if not self.pooling:
            raise ValueError(f"pooling must name at least one of {', '.join(POOLINGS)}")
        for name in self.pooling:
            checks.check_choice("pooling", name, tuple(POOLINGS))
        for name in (
            "word_dropout",
            "embedding_dropout",
            "layer_dropout",
            "head_dropout",
        ):
            checks.check_rate(name, getattr(self, name))


class Committee(nn.Module):
    """Several classifiers of one kind, trained side by side on the same batches.

    Each has parameters and dropout of its own, so they differ in what they get wrong,
    and the mean of their logits is right more often than one of them.

    Attributes:
        member: what they all are.
        members: how many.
    """

    member: SequenceClassifier
    members: int

    @nn.compact
    def __call__(
        self,
        tokens: Array,
        lengths: Array,
        ratios: Array | None = None,
        *,
        train: bool,
    ) -> Array:
        """As `SequenceClassifier`; (members, B) or (members, B, C)."""
        each = nn.vmap(
            lambda member, *given: member(*given, train=train),
            in_axes=None,
            axis_size=self.members,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
        )
        return each(self.member, tokens, lengths, ratios)


Model = SequenceClassifier | Committee


def first_member(model: Model, params: Any) -> tuple[SequenceClassifier, Any]:
    """The first of a committee, with its parameters; one alone as it is."""
    if isinstance(model, SequenceClassifier):
        return model, params
    own = jax.tree.map(lambda a: a[0], params["params"]["member"])
    return model.member, {"params": own}
