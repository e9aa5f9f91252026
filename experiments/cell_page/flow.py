"""How gradients travel back through a cell as it starts, beside others."""

import numpy as np

from experiments.cell_page.charts import Curve, curves
from experiments.cell_page.section import Asked, Section, paragraph
from experiments.gradients import FlowConfig, flow_of
from lstm_jax.cells import CELLS

BESIDE = ("lstm", "rnn_tanh")
CONFIG = FlowConfig(batch=8)


def section(asked: Asked) -> Section:
    """What is left of the gradient of the last output, step by step before it."""
    beside = [CELLS[name] for name in BESIDE if CELLS[name] != asked.cell]
    found = {cell.name: flow_of(cell, CONFIG) for cell in (asked.cell, *beside)}
    norms = {
        name: np.sqrt(sum(np.square(values) for values in fields.values()))
        for name, fields in found.items()
    }
    lines = [
        Curve(name, np.arange(len(v)).tolist(), v.tolist(), name == asked.cell.name)
        for name, v in norms.items()
    ]
    how = (
        f"J depends on the last of {CONFIG.steps} outputs alone. Of its gradient, what "
        "is left at the whole state of each earlier step, with the parameters that the "
        f"cell begins with (D = {CONFIG.input_size}, H = {CONFIG.hidden_size})."
    )
    chart = curves(lines, "steps before the last", logarithmic=True)
    own = norms[asked.cell.name]
    half = min(50, len(own) - 1)
    glance = f"{own[half]:.1e} left after {half} steps"
    return Section(glance, paragraph(how, "quiet") + chart, {"norms": found})
