"""Mistakes, planted automatically: every small corruption of a hand-derived reverse.

A mutant is a cell whose reverse differs in one expression, made by rewriting the
syntax tree of a function. `mutants` goes through all functions behind a cell's
`backward` and `gradients`, `engine_mutants` through the reverse of the engine.
"""

from benchmarks.mutations.cells import Mutant, is_equivalent, mutants
from benchmarks.mutations.check_grads import one_step, passes_check_grads
from benchmarks.mutations.engine import EngineMutant, engine_mutants

__all__ = [
    "EngineMutant",
    "Mutant",
    "engine_mutants",
    "is_equivalent",
    "mutants",
    "one_step",
    "passes_check_grads",
]
