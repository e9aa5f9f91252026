"""The letters that formulas are written in: the program's own, or the article's.

The article (Mukul Rathi, "Demystifying Deep Learning: Part 11", 2018) has Γ for gates,
a for the output, ⟨t⟩ for the step. It keeps examples in columns, so that a product of
matrices has its factors the other way round, and it divides the gradients of weights by
the number m of examples, because its J is that of one.
"""

from typing import NamedTuple


class Letters(NamedTuple):
    """A set of letters.

    Attributes:
        name: "own" or "article".
        latex: the letter of a quantity, by its name, in LaTeX; by "dc_next", what comes
            back to c from the next step.
        text: the same in plain text.
        columns: whether examples stand in columns.
    """

    name: str
    latex: dict[str, str]
    text: dict[str, str]
    columns: bool = False


OWN = Letters("own", {}, {})

_BEFORE, _NOW, _AFTER = (rf"^{{\langle {t} \rangle}}" for t in ("t-1", "t", "t+1"))

ARTICLE = Letters(
    "article",
    {
        "x": f"x{_NOW}",
        "h": f"a{_NOW}",
        "h_prev": f"a{_BEFORE}",
        "c": f"c{_NOW}",
        "c_prev": f"c{_BEFORE}",
        "a": rf"\tilde{{a}}{_NOW}",
        "g": rf"\tilde{{c}}{_NOW}",
        **{gate: rf"\Gamma_{{{gate}}}" for gate in "ifo"},
        **{f"z_{gate}": f"Z_{{{gate}}}" for gate in "ifo"},
        "z_g": "Z_{c}",
        "u": "U",
        "v": "V",
        "dc_next": rf"\frac{{\partial J}}{{\partial c{_AFTER}}} * \Gamma_{{f}}{_AFTER}",
        "Wx": "W_{x}",
        "Wh": "W_{a}",
        "b": "b",
        **{f"{q}_{gate}": f"{q.upper()}_{{{gate}}}" for q in "uv" for gate in "ifo"},
        **{f"{q}_g": f"{q.upper()}_{{c}}" for q in "uv"},
    },
    {
        "x": "x⟨t⟩",
        "h": "a⟨t⟩",
        "h_prev": "a⟨t-1⟩",
        "c": "c⟨t⟩",
        "c_prev": "c⟨t-1⟩",
        "a": "ã⟨t⟩",
        "g": "c̃⟨t⟩",
        **{gate: f"Γ_{gate}" for gate in "ifo"},
        **{f"z_{gate}": f"Z_{gate}" for gate in "ifo"},
        "z_g": "Z_c",
        "u": "U",
        "v": "V",
        "dc_next": "∂J/∂c⟨t+1⟩ * Γ_f⟨t+1⟩",
        "Wx": "W_x",
        "Wh": "W_a",
        "b": "b",
        **{f"{q}_{gate}": f"{q.upper()}_{gate}" for q in "uv" for gate in "ifo"},
        **{f"{q}_g": f"{q.upper()}_c" for q in "uv"},
    },
    columns=True,
)
"""Those of the article, for the LSTM."""

LETTERS = {letters.name: letters for letters in (OWN, ARTICLE)}
