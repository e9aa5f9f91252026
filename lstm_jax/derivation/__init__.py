"""The backward pass of a cell, derived in front of the reader.

`derive` takes a cell's equations and the table of local rules of `lstm_jax.graph`, and
goes from the last equation to the first: the immediate outputs of a quantity, the chain
rule as a sum over them, the local derivatives put in, the result; beside it the line of
the cell's file that computes it, and whether the two agree. Nothing is taken from the
hand-written reverse.

Source: the way of reasoning of Mukul Rathi, "Demystifying Deep Learning: Part 11.
Backpropagation through, well, anything!" (2018).

* `derive`, `Derivation`, `Row`, `Line`: what is derived, and what it is compared with.
* `operation`: how an operation is written that the table doesn't have.
* `NotDerivable`: a primitive that can't be written.
"""

from lstm_jax.derivation.comparison import Line
from lstm_jax.derivation.deriving import derive
from lstm_jax.derivation.operations import operation
from lstm_jax.derivation.reading import NotDerivable
from lstm_jax.derivation.result import Derivation, Row

__all__ = ["Derivation", "Line", "NotDerivable", "Row", "derive", "operation"]
