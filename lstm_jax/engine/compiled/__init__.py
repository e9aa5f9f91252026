"""A gated cell's steps as compiled code, written from the cell's own equations.

`unit.py` traces the equations and their reverse for one hidden unit, `expressions.py`
says how each operation is written, and `writing.py` writes the function. `cpu.py` is
the runner that calls it as C++, with the weights as `panels.py` lays them out and the
sequences' arrays as `storage.py` does, in vectors as long as `processor.py` says;
`cuda` is the one for GPUs.
"""

from lstm_jax.engine.compiled.expressions import EXPRESSIONS, expression
from lstm_jax.engine.compiled.unit import NotUnitByUnit, Program, Unit, trace
from lstm_jax.engine.compiled.writing import write

__all__ = [
    "EXPRESSIONS",
    "NotUnitByUnit",
    "Program",
    "Unit",
    "expression",
    "trace",
    "write",
]
