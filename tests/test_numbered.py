"""`numbered`: comments that name, wherever Python code may come from."""

import importlib.util
import inspect
import io
import linecache
import pdb
import pickle
import subprocess
import sys
import textwrap
import trace
import traceback
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import install_import_hook

import lstm_jax as lj
from lstm_jax.numbered import NAMED, definition, numbered

ONE = jnp.ones(())
HEAD = "import jax\nimport jax.numpy as jnp\nfrom lstm_jax import numbered\n\n"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module of a text; modules of one file may have several names."""

    def made(text, name="equations_here", file="equations_here.py", head=HEAD):
        path = tmp_path / file
        path.write_text(head + textwrap.dedent(text), "utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        found = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, found)
        spec.loader.exec_module(found)
        return found

    return made


def names(function, *args):
    """What a function names, in order."""
    jaxpr = jax.make_jaxpr(function)(*args)
    return [
        equation.params["name"]
        for equation in jaxpr.eqns
        if equation.primitive.name == "name"
    ]


# --- what is named -------------------------------------------------------------------

NAMES = {
    "c = x * y  # (5)": ["c (5)"],
    "c = x * y  #(5)": ["c (5)"],
    "c = x * y  # (12) the memory cell": ["c (12)"],
    "c = x * y  # (5): h goes to (6) and (7)": ["c (5)"],
    "a = jnp.tanh(x)  # (6) again": [],
    "a = jnp.tanh(x)  # (6) again: cheaper than keeping it": [],
    "a = jnp.tanh(x)  # (6) against": ["a (6)"],
    "a = jnp.tanh(x)  # the tanh of (6)": [],
    "# (5)\na = x": [],
    "# (5) is split:\na = x  # (1)": ["a (1)"],
    "a = '# (5)'": [],
    "a = '# (5)'; b = x  # (2)": None,
    "a = x  # 5": [],
    "a, b = x, y  # (3)": ["a (3)", "b (3)"],
    "(a, b), c = (x, y), x  # (3)": ["a (3)", "b (3)", "c (3)"],
    "[a, b] = [x, y]  # (3)": ["a (3)", "b (3)"],
    "a, b = jnp.split(x, 2)  # (1)": ["a (1)", "b (1)"],
    "a, (b, _) = y, jnp.split(x, 2)  # (1)": ["a (1)", "b (1)"],
    "a, b = *[x], y  # (1)": ["a (1)", "b (1)"],
    "_, b = jnp.split(x, 2)  # (1)": ["b (1)"],
    "b, _rate = x, y  # (1)": ["b (1)"],
    "a: jax.Array = x  # (1)": ["a (1)"],
    "a = x  # (1)\na += y  # (2)": ["a (1)", "a (2)"],
    "a = x; b = y  # (2)": ["a (2)", "b (2)"],
    "a = (\n    x\n    + y\n)  # (4)": ["a (4)"],
    "a = jnp.where(\n    x > 0, x, 0\n)  # (4)": ["a (4)"],
    "if x.ndim:\n    a = x  # (1)\nelse:\n    a = y  # (2)": ["a (1)"],
    "for a in (x, y):\n    b = a  # (1)": ["b (1)", "b (1)"],
    "match x.ndim:\n    case 1:\n        a = x  # (1)": ["a (1)"],
    "if x.ndim: a = x  # (1)": ["a (1)"],
    "with jax.named_scope('s'):\n    a = x  # (1)": ["a (1)"],
    'a = """\n# (5)\n"""': [],
    'b = x, """\n"""\na = b[0]  # (5)': ["a (5)"],
}


@pytest.mark.parametrize(("body", "expected"), NAMES.items())
def test_what_a_line_names(module, body, expected):
    text = f"@numbered\ndef f(x, y):\n{textwrap.indent(body, '    ')}\n    return x\n"
    if expected is None:  # a string has no name
        with pytest.raises(TypeError):
            names(module(text).f, jnp.ones(2), jnp.ones(2))
    else:
        assert names(module(text).f, jnp.ones(2), jnp.ones(2)) == expected


REFUSED = {
    "return x  # (5)": "what one assignment gives",
    "print(x)  # (5)": "what one assignment gives",
    "a = b = x  # (5)": "what one assignment gives",
    "assert True  # (5)": "what one assignment gives",
    "a = x; assert True  # (5)": "what one assignment gives",
    "a: int  # (5)": "nothing is assigned",
    "x.a = y  # (5)": "only what is assigned to names",
    "x[0] = y  # (5)": "only what is assigned to names",
    "a, *b = x, y  # (5)": "only what is assigned to names",
    "a, x.b = f(x)  # (5)": "only what is assigned to names",
    "x[0] += y  # (5)": "what one assignment gives",
    "_ = x  # (5)": "begin with an underscore",
    "_a, _b = x, y  # (5)": "begin with an underscore",
    "a = (  # (5)\n    x\n)": "after the end of an assignment",
    "a = (\n    x,  # (5)\n    y,\n)": "after the end of an assignment",
    "if x:  # (5)\n    a = x": "after the end of an assignment",
    "a = x  # (5), (6)": "one equation's number",
    "a = x  # (5) and (6)": "one equation's number",
}


@pytest.mark.parametrize("body", REFUSED)
def test_a_number_that_names_nothing_is_an_error_at_its_line(module, body):
    text = f"\n@numbered\ndef f(x, y):\n{textwrap.indent(body, '    ')}\n"
    with pytest.raises(SyntaxError, match=REFUSED[body]) as raised:
        module(text)
    lines = (HEAD + text).splitlines()
    [line] = [k for k, words in enumerate(lines, 1) if "# (5)" in words]
    assert raised.value.lineno == line
    assert raised.value.filename.endswith("equations_here.py")
    assert raised.value.text.strip() == lines[line - 1].strip()


def test_it_does_what_named_does(module):
    by_comment = module(
        """
        @numbered
        def f(x):
            y = jnp.sin(x)  # (1)
            z, w = y * x, y + x  # (2)
            return z * w
        """
    ).f

    def by_call(x):
        y = lj.named(jnp.sin(x), "y", 1)
        z, w = lj.named(y * x, "z", 2), lj.named(y + x, "w", 2)
        return z * w

    x = jnp.ones(3)
    assert str(jax.make_jaxpr(by_comment)(x)) == str(jax.make_jaxpr(by_call)(x))


# --- the function stays what it was --------------------------------------------------

WHOLE = '''
def outside(scale):
    shift = 2.0

    @numbered
    def inside(x, y=3.0, *rest, key: float = 4.0, **more):
        """Inside."""
        z = scale * x + shift  # (1)
        return z, y, rest, key, more

    return inside


class Holder:
    @staticmethod
    @numbered
    def held(x):
        y = 2 * x  # (1)
        return y

    @numbered
    def method(self, x):
        y = 2 * x  # (1)
        return y + len(super().__repr__()) * 0


@numbered
def again(x, n=2):
    y = 2 * x  # (1)
    return y if n == 0 else again(y, n - 1)
'''


def test_closures_defaults_and_what_it_says_of_itself(module):
    found = module(WHOLE)
    inside = found.outside(5.0)
    assert inside(ONE) == (7.0, 3.0, (), 4.0, {})
    assert inside(ONE, 2.0, 8, key=1.0, z=6) == (7.0, 2.0, (8,), 1.0, {"z": 6})
    assert inside.__doc__ == "Inside."
    assert inside.__qualname__ == "outside.<locals>.inside"
    assert inside.__code__.co_qualname == "outside.<locals>.inside"
    assert inside.__annotations__ == {"key": float}
    assert str(inspect.signature(inside)).startswith("(x, y=3.0, *rest, key: float")
    assert names(inside, 1.0) == ["z (1)"]
    assert found.outside(7.0)(ONE)[0] == 9.0
    assert inside(ONE)[0] == 7.0


def test_methods_and_functions_that_call_themselves(module):
    found = module(WHOLE)
    assert names(found.Holder.held, 1.0) == ["y (1)"]
    assert names(found.Holder().method, 1.0) == ["y (1)"]
    assert names(found.again, 1.0) == ["y (1)"] * 3


def test_annotations_as_strings(module):
    head = "from __future__ import annotations\n" + HEAD
    f = module(
        """
        @numbered
        def f(x: jax.Array, flag: Unknown = None) -> Nowhere:
            y: AlsoUnknown = 2 * x  # (1)
            return y
        """,
        head=head,
    ).f
    assert names(f, 1.0) == ["y (1)"]
    assert f.__annotations__["return"] == "Nowhere"


def test_the_same_object_is_returned_and_can_be_pickled(module):
    f = module("@numbered\ndef f(x):\n    y = 2 * x  # (1)\n    return y\n").f
    assert pickle.loads(pickle.dumps(f)) is f
    assert numbered(f) is f
    assert names(f, 1.0) == ["y (1)"]


def test_its_source_is_found_as_before(module):
    text = '@numbered\ndef f(x):\n    """F."""\n    y = x  # (1)\n    return y\n'
    found = module(text)
    assert inspect.getsource(found.f) == text
    assert inspect.getsourcelines(found.f)[1] == 1 + HEAD.count("\n")
    assert definition(found.f).name == "f"


def test_copies_of_a_file_have_their_own(module):
    text = "K = {}\n\n@numbered\ndef f(x):\n    y = K * x  # ({})\n    return y\n"
    first = module(text.format(2.0, 1), name="first", file="first.py")
    copied = module(text.format(2.0, 1), name="second", file="first.py")
    changed = module("\n" + text.format(3.0, 7), name="third", file="first.py")
    assert [m.f(ONE) for m in (first, copied, changed)] == [2.0, 2.0, 3.0]
    assert names(copied.f, 1.0) == ["y (1)"]
    assert names(changed.f, 1.0) == ["y (7)"]
    assert first.f is not copied.f


def test_under_another_decorator(module):
    found = module(
        """
        import functools

        def twice(function):
            @functools.wraps(function)
            def run(*args):
                return 2 * function(*args)
            return run

        @numbered
        @twice
        def f(x):
            y = x + 1  # (1)
            return y

        @jax.jit
        @numbered
        def g(x):
            y = x + 1  # (1)
            return y
        """
    )
    assert found.f(ONE) == 4.0
    assert names(found.f, 1.0) == ["y (1)"]
    assert found.g(ONE) == 2.0
    assert "y (1)" in str(jax.make_jaxpr(found.g)(1.0))


# --- tools that look at lines --------------------------------------------------------

LINES = """
@numbered
def f(x):
    y = 2 * x  # (1)
    a, b = (
        y,
        y / x,
    )  # (2)
    z = a + b  # (3)
    return z
"""


def line_of(words):
    lines = (HEAD + LINES).splitlines()
    return next(k for k, line in enumerate(lines, start=1) if words in line)


def test_tracebacks_point_at_the_line_and_the_expression(module):
    f = module(LINES.replace("y / x", "y.no")).f
    with pytest.raises(AttributeError) as raised:
        f(ONE)
    frame = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert (frame.lineno, frame.name) == (line_of("y / x"), "f")
    assert frame.line.strip() == "y.no,"
    assert (frame.colno, frame.end_colno) == (8, 12)


def test_tracebacks_of_an_indented_function(module):
    text = textwrap.indent(LINES.replace("y / x", "y.no"), "    ")
    f = module(f"\ndef outside():\n{text}\n    return f\n").outside()
    with pytest.raises(AttributeError) as raised:
        f(ONE)
    frame = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert frame.line.strip() == "y.no,"
    assert (frame.colno, frame.end_colno) == (12, 16)


def test_a_debugger_stops_and_sees_values(module):
    found, out = module(LINES), io.StringIO()
    stop = f"b {found.__file__}:{line_of('# (3)')}"
    said = "\n".join([stop, "c", "p ('here', float(y), float(b))", "n", "p z", "c", ""])
    debugger = pdb.Pdb(stdin=io.StringIO(said), stdout=out, nosigint=True, readrc=False)
    before = sys.gettrace()
    try:
        debugger.runcall(found.f, 2 * ONE)
    finally:
        sys.settrace(before)
    assert "('here', 4.0, 2.0)" in out.getvalue()
    assert "z = a + b  # (3)" in out.getvalue()
    assert "return z" in out.getvalue()


def test_line_counts_are_those_of_the_source(module):
    """What coverage is made from."""
    found = module(LINES)
    counter = trace.Trace(count=1, trace=0)
    before = sys.gettrace()
    try:
        counter.runfunc(found.f, ONE)
    finally:
        sys.settrace(before)
    counts = counter.results().counts
    counted = {line for file, line in counts if file == found.__file__}
    body = range(line_of("y = 2"), line_of("return z") + 1)
    assert counted <= set(body)
    assert {line_of("# (1)"), line_of("# (3)"), line_of("return z")} <= counted


def test_the_gradient_check_names_the_line(module):
    found = module(
        """
        @numbered
        def f(x):
            y = jnp.sin(x)  # (1)
            z = y**2  # (2)
            return z

        def forward(x):
            return f(x), x

        @numbered
        def reverse(x, dz):
            y = jnp.sin(x)  # (1) again
            dy = dz * y  # (2)
            dx = dy * jnp.cos(x)  # (1)
            return (dx,)
        """
    )
    report = lj.check_vjp(found.f, found.forward, found.reverse, jnp.ones(2))
    assert report.first_wrong.quantity == "dy"
    assert report.first_wrong.equations == (2,)
    lines = inspect.getsource(found).splitlines()
    line = 1 + next(k for k, words in enumerate(lines) if "dy = dz" in words)
    assert report.first_wrong.line == f"equations_here.py:{line} (reverse)"


# --- where code may come from --------------------------------------------------------

CELL = "@numbered\ndef f(x):\n    y = 2 * x  # (1)\n    return y\n"


def test_a_notebook_whose_cells_are_in_linecache():
    file = "<ipython-input-3-0123456789ab>"
    lines = CELL.splitlines(keepends=True)
    linecache.cache[file] = (len(CELL), None, lines, file)
    scope = {"numbered": numbered, "__name__": "__main__"}
    try:
        exec(compile(CELL, file, "exec"), scope)
        assert names(scope["f"], 1.0) == ["y (1)"]
    finally:
        del linecache.cache[file]


@pytest.mark.parametrize("file", ["<string>", "<stdin>", "nowhere.py", "README.md"])
def test_code_without_a_source_says_what_to_do(file):
    """README.md is there, but holds something else."""
    scope = {"numbered": numbered, "__name__": "somewhere"}
    with pytest.raises(OSError, match=r"source of f.*call lstm_jax\.named") as raised:
        exec(compile(CELL, file, "exec"), scope)
    assert file in str(raised.value)


def test_a_source_that_is_another_functions():
    """The file has changed since, for instance."""
    other = CELL.replace("f(x)", "f(x, z)")
    lines = other.splitlines(keepends=True)
    linecache.cache["<changed>"] = (len(other), None, lines, "<changed>")
    scope = {"numbered": numbered, "__name__": "somewhere"}
    try:
        with pytest.raises(OSError, match=r"call lstm_jax\.named"):
            exec(compile(CELL, "<changed>", "exec"), scope)
    finally:
        del linecache.cache["<changed>"]


def test_the_interpreter_reading_its_input():
    text = HEAD + CELL + "\nprint('never')\n"
    run = subprocess.run(
        [sys.executable], input=text, capture_output=True, text=True, check=False
    )
    assert "call lstm_jax.named there instead" in run.stderr
    assert "never" not in run.stdout


@pytest.mark.parametrize("what", [lambda x: x, partial(max, 1), str.upper, dict])
def test_what_is_no_function_made_by_def(what):
    with pytest.raises(TypeError, match="numbered takes a function made by def"):
        numbered(what)


def test_annotations_are_checked_and_names_are_there_once(tmp_path, monkeypatch):
    """The import hook puts a decorator of its own beneath, which wraps the function."""
    text = CELL.replace("f(x)", "f(x: Float[Array, 'n']) -> Float[Array, 'n']")
    text = "from jaxtyping import Array, Float\n" + HEAD + text
    (tmp_path / "checked_equations.py").write_text(text, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with install_import_hook("checked_equations", "beartype.beartype"):
        found = importlib.import_module("checked_equations")
    monkeypatch.setitem(sys.modules, "checked_equations", found)
    assert names(found.f, jnp.ones(3)) == ["y (1)"]
    with pytest.raises(Exception, match="Type-check error"):
        found.f(jnp.ones((3, 2)))


def test_its_global_is_lstm_jaxs_named(module):
    assert vars(module(CELL))[NAMED] is lj.named
