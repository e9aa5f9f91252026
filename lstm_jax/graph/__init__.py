"""Backpropagation through the computation graph of any JAX function.

The article's section on computation graphs made runnable: write the computation down as
a graph, go back through it node by node, and at every node apply a local rule.

* `grad`, `value_and_grad`, `vjp`: gradients by the rules alone.
* `RULES`, `rule`: the table, and how to add a row.
* `named_values`, `named_cotangents`: what a function's named quantities are worth, and
  the gradients with respect to them.
* `added_up`, `named_added_up`: how large the terms were that these are the sums of.
* `render`: a drawing of the graph.

None of it calls JAX's own differentiation, so it is a second opinion on it.
"""

from lstm_jax.graph.addends import added_up, named_added_up
from lstm_jax.graph.backprop import ComplexNumberError, UnknownPrimitiveError
from lstm_jax.graph.intermediates import named_cotangents, named_values
from lstm_jax.graph.render import Drawing, render
from lstm_jax.graph.rules import RULES, Rule, elementwise, local, rule
from lstm_jax.graph.transforms import grad, value_and_grad, vjp

__all__ = [
    "RULES",
    "ComplexNumberError",
    "Drawing",
    "Rule",
    "UnknownPrimitiveError",
    "added_up",
    "elementwise",
    "grad",
    "local",
    "named_added_up",
    "named_cotangents",
    "named_values",
    "render",
    "rule",
    "value_and_grad",
    "vjp",
]
