"""The names of quantities, as they are written and read again."""

import jax
import pytest

from lstm_jax.cell import Name, named

WRITTEN = {
    "c": Name("c"),
    "c (5)": Name("c", 5),
    "c (5) [2]": Name("c", 5, 2),
    "dz_i [3]": Name("dz_i", None, 3),
    "product u": Name("product u"),
    "f(x) (12)": Name("f(x)", 12),
    "a (1) (2)": Name("a (1)", 2),
    "gradient Wx": Name("gradient Wx"),
    "": Name(""),
}


@pytest.mark.parametrize(("text", "name"), WRITTEN.items())
def test_a_name_is_read_as_it_is_written(text, name):
    assert Name.parse(text) == name
    assert str(name) == text


def test_a_named_value_carries_its_name():
    jaxpr = jax.make_jaxpr(lambda x: named(x, "c", 5))(1.0)
    [equation] = jaxpr.eqns
    assert Name.parse(equation.params["name"]) == Name("c", 5)
