"""The computation graph: programs, its public door, unknown primitives, names."""

import ast
import inspect
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graph_support import (
    RNG,
    TOLERANCE,
    assert_close,
    assert_like_jax,
    normal,
    positive,
    random_like,
    value_and_gradients,
)
from jax import lax, tree
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Primitive
from oracles import EACH_KIND, drawn_inputs, on_device

import lstm_jax as lj
from lstm_jax import graph
from lstm_jax.cell import Name
from lstm_jax.cells import CELLS
from lstm_jax.graph import backprop, rules

pytestmark = pytest.mark.promotes_ranks

# --- programs: many rules, and graphs inside graphs -----------------------------------


class Layer(NamedTuple):
    W: jax.Array
    b: jax.Array


def layer(inputs: int, outputs: int) -> Layer:
    return Layer(normal(inputs, outputs), normal(outputs))


def mlp_cross_entropy(layers: list[Layer], x: Any, labels: Any) -> jax.Array:
    for W, b in layers[:-1]:
        x = jax.nn.relu(x @ W + b)
    log_p = jax.nn.log_softmax(x @ layers[-1].W + layers[-1].b)
    return -jnp.mean(jnp.take_along_axis(log_p, labels[:, None], 1))


def sentiment(params: dict, key: Any, tokens: Any, mask: Any, labels: Any) -> jax.Array:
    """Embedding, dropout, layer norm, masked max and mean pooling, binary loss."""
    e = params["embedding"][tokens]
    keep = jax.random.bernoulli(key, 0.8, e.shape)
    e = jnp.where(keep, e / 0.8, 0)
    mean, variance = e.mean(-1, keepdims=True), e.var(-1, keepdims=True)
    e = params["scale"] * (e - mean) * lax.rsqrt(variance + 1e-6)
    noise = 0.1 * jax.random.normal(key, e.shape)
    e = e + noise
    largest = jnp.max(jnp.where(mask[..., None], e, -jnp.inf), 1)
    mean = jnp.sum(e * mask[..., None].astype(e.dtype), 1) / jnp.sum(
        mask, 1, keepdims=True, dtype=e.dtype
    )
    logits = (jnp.concatenate([largest, mean], -1) @ params["w"])[:, 0]
    return jnp.mean(jnp.logaddexp(0.0, logits) - labels * logits)


def scan_with_all_roles(reverse: bool) -> Any:
    """Constants, carries, an integer carry, one that is not used, xs and ys."""

    def fn(W: Any, h: Any, xs: Any) -> Any:
        def step(carry: Any, at: Any) -> Any:
            h, count, unused = carry
            x, k = at
            h = jnp.tanh(h @ W + x * count.astype(x.dtype))
            return (h, count + k, unused), (h * x, jnp.argmax(h), count)

        start = (h, jnp.int32(0), jnp.ones(()))
        ks = jnp.arange(len(xs), dtype=jnp.int32)
        (h, _, _), (ys, _, _) = lax.scan(step, start, (xs, ks), reverse=reverse)
        return h, ys

    return fn


def nested_scans(W: Any, xs: Any) -> Any:
    def outer(h: Any, x: Any) -> Any:
        def inner(h: Any, w: Any) -> Any:
            return jnp.sin(h * w + x), h[0]

        h, ys = lax.scan(inner, h, W)
        return h, ys.sum() * x

    return lax.scan(outer, xs[0], xs)


def scan_of_nothing(W: Any, h: Any) -> Any:
    return lax.scan(lambda h, _: (h @ W, h), h, None, length=0)


def repeated(W: Any, h: Any) -> Any:
    return lax.fori_loop(0, 4, lambda k, h: jnp.sin(h @ W) + k, h)


def recurrence(a: Any, b: Any) -> Any:
    """A linear recurrence in parallel: h_t = a_t h_{t-1} + b_t."""

    def combine(earlier: Any, later: Any) -> Any:
        return earlier[0] * later[0], earlier[1] * later[0] + later[1]

    return lax.associative_scan(combine, (a, b))[1]


def branches(index: Any, x: Any, w: Any) -> Any:
    choices = [lambda x, w: x * w, lambda x, w: jnp.sin(x), lambda x, w: w**2 * x]
    return lax.switch(index, choices, x, w)


@jax.custom_jvp
def with_jvp(x: Any) -> Any:
    return jnp.exp(x) * 2


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), tangents[0] * jnp.nan))


@jax.custom_vjp
def with_vjp(x: Any, y: Any) -> Any:
    return jnp.exp(x) * y, jnp.sin(y)


with_vjp.defvjp(
    lambda x, y: (with_vjp(x, y), None), lambda _, dcs: (dcs[0] * jnp.nan, dcs[1])
)


@jax.custom_batching.custom_vmap
def with_vmap(x: Any) -> Any:
    return jnp.exp(x)


@jax.checkpoint
def checkpointed(x: Any, w: Any) -> Any:
    return checkpoint_name(jnp.sin(x @ w), "y (1)") ** 2


@jax.jit
def compiled(x: Any) -> Any:
    return jax.jit(lambda y: jnp.sin(y) * MATRIX)(x) + x


def fan_out(x: Any) -> Any:
    """B = f(A), C = g(A) and A itself: three uses, of which one twice."""
    b, c = jnp.sin(x), x**3
    return b * c * x + c, x, x


MATRIX = normal(4, 6)
KEY = jax.random.key(0)
TOKENS = RNG.integers(0, 7, size=(3, 5))
MASK = np.arange(5) < np.array([5, 1, 3])[:, None]
PARAMS = {"embedding": normal(7, 4), "scale": positive(4), "w": normal(8, 1)}

PROGRAMS = {
    "mlp with softmax cross-entropy": (
        lambda layers: mlp_cross_entropy(layers, X_MLP, LABELS),
        ([layer(4, 8), layer(8, 6), layer(6, 3)],),
    ),
    "embedding, dropout, layer norm, pooling": (
        sentiment,
        (PARAMS, KEY, TOKENS, MASK, np.array([1.0, 0.0, 1.0])),
    ),
    "scan": (scan_with_all_roles(False), (normal(3, 3), normal(2, 3), normal(5, 2, 3))),
    "scan in reverse": (
        scan_with_all_roles(True),
        (normal(3, 3), normal(2, 3), normal(5, 2, 3)),
    ),
    "scans in a scan": (nested_scans, (normal(4), normal(3, 2))),
    "scan of no steps": (scan_of_nothing, (normal(3, 3), normal(3))),
    "fixed loop": (repeated, (normal(3, 3), normal(2, 3))),
    "associative scan": (recurrence, (normal(7, 2), normal(7, 2))),
    "switch": (branches, (np.int32(2), normal(3), normal(3))),
    "switch in vmap": (
        jax.vmap(branches, (0, 0, None)),
        (np.arange(3, dtype=np.int32), normal(3, 2), normal(2)),
    ),
    "logsumexp, extreme": (
        lambda z: jax.nn.logsumexp(z, 1),
        (np.array([[1000.0, -1000.0, 999.0], [-jnp.inf, 0.0, 1.0]]),),
    ),
    "saturated gates": (
        lambda z: jax.nn.sigmoid(z) * jnp.tanh(z) + jax.nn.log_sigmoid(z),
        (np.array([-1000.0, -30.0, 0.0, 30.0, 1000.0]),),
    ),
    "activations": (
        lambda z: jax.nn.gelu(z) + jax.nn.silu(z) * jax.nn.elu(z) - jax.nn.softplus(z),
        (normal(3, 4),),
    ),
    "roll, repeat, flip, outer": (
        lambda a: jnp.outer(jnp.roll(a, 2)[::-1], jnp.repeat(a, 2)),
        (normal(4),),
    ),
    "checkpoint": (checkpointed, (normal(2, 3), normal(3, 3))),
    "jit in jit": (compiled, (MATRIX,)),
    "vmap": (
        jax.vmap(lambda x, w: jnp.tanh(w @ x)[TOKENS[0] % 3], (0, None)),
        (normal(5, 4), normal(3, 4)),
    ),
    "fan-out": (fan_out, (normal(3),)),
    "derivative of a derivative": (
        jax.grad(lambda x: jnp.sum(jnp.sin(x) ** 3)),
        (normal(3),),
    ),
    "not used, and constant": (
        lambda a, b: (2 * a, jnp.ones(3)),
        (normal(2), normal(3)),
    ),
}
X_MLP, LABELS = normal(5, 4), np.array([0, 2, 1, 1, 0])


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    assert_like_jax(*PROGRAMS[name])


@pytest.mark.parametrize(
    "name", ["scan", "scans in a scan", "associative scan", "fan-out", "switch"]
)
def test_program_differentiated_again(name):
    fn, args = PROGRAMS[name]
    argnums = [k for k, arg in enumerate(args) if arg.dtype == np.float64]

    def squared(grad: Any, *args: Any) -> jax.Array:
        def loss(*args: Any) -> jax.Array:
            return sum(jnp.sum(jnp.sin(y)) for y in tree.leaves(fn(*args)))

        return sum(jnp.sum(g**2) for g in tree.leaves(grad(loss, argnums)(*args)))

    found = graph.grad(lambda *args: squared(graph.grad, *args), argnums)
    expected = jax.grad(lambda *args: squared(jax.grad, *args), argnums)
    both = jax.jit(lambda *args: (found(*args), expected(*args)))
    assert_close(*both(*args), 1e-11)


@pytest.mark.parametrize(
    ("fn", "args"),
    [(with_jvp, (normal(3),)), (with_vjp, (normal(3), normal(3)))],
    ids=["custom_jvp", "custom_vjp"],
)
def test_custom_rules_are_looked_through(fn, args):
    """What is differentiated is the function, not the (here: wrong) rule it carries."""
    value, pullback = graph.vjp(fn, *args)
    _, expected_pullback = jax.vjp(fn.__wrapped__, *args)
    cotangent = random_like(value)
    assert_close(pullback(cotangent), expected_pullback(cotangent))


def test_other_calls_are_looked_through():
    with_vmap.def_vmap(lambda size, batched, x: (jnp.exp(x), batched[0]))
    assert_close(graph.grad(with_vmap)(0.5), jnp.exp(0.5))


@EACH_KIND
@pytest.mark.parametrize("loop", ["scanned", "unrolled"])
def test_a_cell_over_time(cell, loop):
    params, xs, state = drawn_inputs(cell, 5, (2,))

    def step(params: Any, state: Any, x: Any) -> Any:
        return cell.step(params, state, cell.project(params, x))[0]

    def run(params: Any, state: Any, xs: Any) -> Any:
        if loop == "scanned":
            return lax.scan(lambda s, x: (step(params, s, x), s), state, xs)
        for x in xs:
            state = step(params, state, x)
        return state

    assert_like_jax(run, (params, state, xs))


# --- the public door ------------------------------------------------------------------


def loss(params: Layer, x: Any) -> jax.Array:
    return jnp.sum(jnp.tanh(x @ params.W + params.b) ** 2)


def arguments(dtype: Any = jnp.float64) -> tuple[Layer, jax.Array]:
    args = layer(4, 3), normal(5, 4)
    return on_device(tree.map(lambda a: a.astype(dtype), args))


@pytest.mark.parametrize("argnums", [0, 1, -1, (0,), (1, 0), [0, 1]])
def test_argnums(argnums):
    args = arguments()
    found = jax.jit(graph.grad(loss, argnums))(*args)
    assert_close(found, jax.jit(jax.grad(loss, argnums))(*args))


def test_auxiliary_outputs_and_keywords():
    def fn(params: Layer, *, x: Any) -> Any:
        return loss(params, x), {"norm": x.sum(), "count": jnp.int32(3)}

    params, x = arguments()
    each = graph.value_and_grad, jax.value_and_grad, graph.grad
    found, expected, (gradient, aux) = (
        jax.jit(transform(fn, has_aux=True))(params, x=x) for transform in each
    )
    assert_close(found, expected)
    assert_close((found[0][1], found[1]), (aux, gradient))


def test_under_jit_and_vmap():
    params, x = arguments()
    xs = on_device(np.stack([x, 2 * np.asarray(x), -np.asarray(x)]))
    expected = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, xs)
    assert_close(jax.vmap(graph.grad(loss), (None, 0))(params, xs), expected)
    assert_close(jax.jit(jax.vmap(graph.grad(loss), (None, 0)))(params, xs), expected)
    closed_over = jax.vmap(lambda x: graph.grad(lambda p: loss(p, x))(params))
    assert_close(closed_over(xs), expected)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_gradients_have_their_primals_dtype(dtype):
    args = arguments(dtype)
    found = jax.jit(graph.grad(loss, (0, 1)))(*args)
    tolerance = {jnp.bfloat16: 3e-2, jnp.float32: 1e-6, jnp.float64: TOLERANCE}[dtype]
    assert_close(found, jax.jit(jax.grad(loss, (0, 1)))(*args), tolerance)


def test_mixed_precision_product():
    """16-bit factors, accumulated in 32 bits: the gradients come back in 16."""

    def fn(x: Any, w: Any) -> jax.Array:
        return jnp.einsum("bi,ij->bj", x, w, preferred_element_type=jnp.float32)

    args = tuple(normal(3, 3).astype(jnp.bfloat16) for _ in range(2))
    assert_like_jax(fn, args, 1e-2)


@pytest.mark.jax_defaults
def test_with_jaxs_own_settings():
    args = on_device(([layer(4, 8), layer(8, 3)], normal(5, 4), LABELS))
    found = jax.jit(graph.grad(mlp_cross_entropy))(*args)
    assert_close(found, jax.jit(jax.grad(mlp_cross_entropy))(*args), 1e-5)
    assert_close(graph.grad(lambda a: a * 2)(3.0), jnp.float32(2))


def test_what_is_not_differentiable_gets_float0():
    def fn(x: Any, index: Any, key: Any, flag: Any) -> Any:
        return jnp.where(flag, x[index], 0.0) * jax.random.uniform(key), index + 1

    args = (normal(4), np.array([1, 1]), KEY, np.array(True))
    assert_like_jax(fn, args)
    run = jax.jit(lambda *args: value_and_gradients(graph.vjp, fn, args))
    _, found = run(*args)
    assert [g.dtype for g in found[1:]] == [jax.dtypes.float0] * 3


BAD_CALLS = {
    "integer argument": (
        lambda: graph.grad(lambda p: p["x"] * 1.0)({"x": 3}),
        TypeError,
        r"argument 0\['x'\] is int",
    ),
    "complex argument": (
        lambda: graph.grad(lambda x: x.real)(1j),
        TypeError,
        "real numbers; got complex128",
    ),
    "complex on the way": (
        lambda: graph.grad(lambda x: lax.complex(x, x).real)(1.0),
        TypeError,
        "real numbers; got complex128",
    ),
    "vector output": (
        lambda: graph.grad(lambda x: x)(jnp.ones(3)),
        TypeError,
        r"one floating scalar output; got float64\[3\]",
    ),
    "integer output": (
        lambda: graph.grad(lambda x: x.astype(int))(1.0),
        TypeError,
        r"one floating scalar output; got int64\[\]",
    ),
    "several outputs": (
        lambda: graph.grad(lambda x: (x, x))(1.0),
        TypeError,
        "one floating scalar output; got",
    ),
    "no auxiliary output": (
        lambda: graph.grad(lambda x: x, has_aux=True)(1.0),
        TypeError,
        r"must return \(value, aux\)",
    ),
    "argnums": (
        lambda: graph.grad(lambda x: x, argnums=1)(1.0),
        ValueError,
        "argnums 1 is out of range: there are 1 positional",
    ),
    "tree of the gradient": (
        lambda: graph.vjp(lambda x: (x, x), 1.0)[1](1.0),
        ValueError,
        "must have the tree of the outputs",
    ),
    "shape of the gradient": (
        lambda: graph.vjp(lambda x: x, jnp.ones(3))[1](jnp.ones(2)),
        ValueError,
        r"an output float64\[3\] must be like it; got float64\[2\]",
    ),
    "dtype of the gradient": (
        lambda: graph.vjp(lambda x: x, jnp.ones(3))[1](jnp.ones(3, jnp.float32)),
        ValueError,
        r"must be like it; got float32\[3\]",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_call(name):
    call, error, message = BAD_CALLS[name]
    with pytest.raises(error, match=message):
        call()


# --- unknown primitives, and new rules ------------------------------------------------


def test_unknown_primitive_is_named_with_its_line():
    def median_like(x: Any) -> jax.Array:
        return lax.sort(x)[1]  # the line that the error names

    lines, start = inspect.getsourcelines(median_like)
    line = start + next(k for k, text in enumerate(lines) if "lax.sort" in text)
    with pytest.raises(graph.UnknownPrimitiveError) as caught:
        graph.grad(median_like)(jnp.ones(3))
    message = str(caught.value)
    assert message.startswith("no rule for the primitive 'sort', used at ")
    assert f"test_graph.py:{line}" in message
    for line in ('@lstm_jax.graph.rule("sort")', "def _(dc, c, a):", "return da"):
        assert line in message
    assert "num_keys" in message


@pytest.mark.parametrize(
    ("fn", "unknown", "holders"),
    [
        (lambda x: lax.while_loop(lambda s: s < 2, lambda s: s + 1, x), "while", []),
        (lambda x: jax.jit(lambda x: lax.sort(x + x))(x)[0], "sort", ["jit"]),
        (
            lambda x: jax.jit(
                lambda x: lax.scan(lambda c, _: (lax.sort(c), None), x, None, 2)[0]
            )(x),
            "sort",
            ["scan", "jit"],
        ),
    ],
    ids=["while", "in jit", "in scan in jit"],
)
def test_unknown_primitive_in_a_structure(fn, unknown, holders):
    x = jnp.ones(()) if unknown == "while" else jnp.ones(3)
    _, pullback = graph.vjp(lambda x: fn(x).sum(), x)
    with pytest.raises(graph.UnknownPrimitiveError, match=f"'{unknown}'") as caught:
        pullback(jnp.ones(()))
    notes = getattr(caught.value, "__notes__", [])
    notes = [note for note in notes if note.startswith("in a ")]
    assert [note.split(",")[0] for note in notes] == [f"in a {h}" for h in holders]
    assert all("test_graph.py" in note for note in notes)


def test_unknown_primitive_that_no_gradient_reaches_is_no_error():
    def fn(x: Any, weights: Any) -> jax.Array:
        return x * lax.sort(weights)[jnp.argmax(lax.sort(weights * x))]

    assert_close(graph.grad(fn)(2.0, jnp.ones(3)), jnp.ones(()))


@pytest.fixture
def doubled(monkeypatch) -> Primitive:
    """A primitive that JAX itself can't differentiate: c = k a."""
    monkeypatch.setattr(rules, "RULES", dict(graph.RULES))
    monkeypatch.setattr(backprop, "RULES", rules.RULES)
    primitive = Primitive("times")
    primitive.def_impl(lambda a, *, k: a * k)
    primitive.def_abstract_eval(lambda a, *, k: a)
    return primitive


def test_a_new_rule(doubled):
    def fn(a: Any) -> jax.Array:
        return doubled.bind(a, k=3.0).sum()

    with pytest.raises(graph.UnknownPrimitiveError, match="there are: k"):
        graph.grad(fn)(jnp.ones(2))

    @graph.rule("times", "{k}")
    def _(dc, c, a, *, k):
        return k * dc

    assert_close(graph.grad(fn)(jnp.ones(2)), jnp.full(2, 3.0))


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (lambda dc, c, a: (dc, dc), "one gradient for each of its 1 operands, got 2"),
        (lambda dc, c, a: dc.sum(), r"float64\[\] for an operand float64\[2\]"),
        (
            lambda dc, c, a: dc.astype(jnp.float32),
            r"float32\[2\] for an operand float64\[2\]",
        ),
    ],
    ids=["count", "shape", "dtype"],
)
def test_a_new_rule_that_cannot_be_right(doubled, backward, message):
    graph.rule("times")(backward)
    with pytest.raises(ValueError, match=message):
        graph.grad(lambda a: doubled.bind(a, k=3.0).sum())(jnp.ones(2))


FORBIDDEN = {
    *("grad", "value_and_grad", "vjp", "jvp", "linearize", "linear_transpose", "ad"),
    *("jacfwd", "jacrev", "jacobian", "hessian", "custom_vjp", "custom_jvp"),
}


def test_no_call_to_jaxs_own_differentiation():
    folder = graph.__path__[0]
    modules = sorted(Path(folder).glob("*.py"))
    assert len(modules) > 4
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr not in FORBIDDEN, f"{module}:{node.lineno}"
            elif isinstance(node, ast.ImportFrom) and node.module.startswith("jax"):
                imported = {alias.name for alias in node.names}
                assert not imported & FORBIDDEN, f"{module}:{node.lineno}"
                assert "interpreters" not in node.module, f"{module}:{node.lineno}"


# --- named quantities -----------------------------------------------------------------


def two_steps(x: Any, w: Any) -> jax.Array:
    y = checkpoint_name(jnp.sin(x * w), "y (1)")
    z = checkpoint_name(y * y + x, "z (2)")
    w = checkpoint_name(2 * w, "y (1)")
    return z * w


def test_named_values_and_cotangents():
    x, w = 0.3, 0.7
    y, z = np.sin(x * w), np.sin(x * w) ** 2 + x
    values = graph.named_values(two_steps, x, w)
    assert list(values) == ["y (1)", "y (1) [2]", "z (2)"]
    assert_close(list(values.values()), [jnp.asarray(q) for q in (y, 2 * w, z)])

    gradients = graph.named_cotangents(two_steps, x, w, cotangent=1.0)
    assert list(gradients) == ["y (1)", "y (1) [2]", "z (2)"]
    expected = [2 * w * 2 * y, z, 2 * w]
    assert_close(list(gradients.values()), [jnp.asarray(d) for d in expected])


def test_named_quantities_of_a_loop_are_stacked():
    def looped(w: Any, xs: Any) -> jax.Array:
        def step(h: Any, x: Any) -> Any:
            h = jax.jit(lambda h: checkpoint_name(jnp.tanh(w * h + x), "h (1)"))(h)
            return h, None

        return lax.scan(step, jnp.zeros(()), xs)[0]

    xs = jnp.asarray(normal(4))
    h = graph.named_values(looped, 0.5, xs)["h (1)"]
    dh = graph.named_cotangents(looped, 0.5, xs, cotangent=1.0)["h (1)"]
    # dh_t = dh_{t+1} (1 - h_{t+1}²) w, backpropagation through time by hand
    expected = [1.0]
    for t in (3, 2, 1):
        expected.insert(0, expected[0] * (1 - h[t] ** 2) * 0.5)
    assert_close(dh, jnp.asarray(expected))


def test_named_quantities_that_the_output_does_not_need():
    def fn(x: Any) -> jax.Array:
        checkpoint_name(x * 2, "unused (1)")
        checkpoint_name(jnp.ones(()), "constant (2)")
        return x * 3

    assert list(graph.named_values(fn, 1.0)) == ["unused (1)", "constant (2)"]
    assert graph.named_cotangents(fn, 1.0, cotangent=1.0) == {}


def test_names_of_the_lstms_equations():
    """The gradients that its hand-written backward names are those of the graph."""
    cell = CELLS["lstm"]
    params, xs, state = drawn_inputs(cell, 1, (2,))
    u = cell.project(params, xs[0])
    new, kept = jax.jit(cell.step)(params, state, u)
    dnew = random_like(new)

    def step(*args: Any) -> Any:
        return cell.step(*args)[0]

    by_graph = jax.jit(partial(graph.named_cotangents, step))(
        params, state, u, cotangent=dnew
    )
    by_hand = jax.jit(partial(graph.named_values, cell.backward))(
        params, state, new, kept, dnew
    )
    through = {"c": 6, "z_g": 4} | dict.fromkeys(("z_i", "z_f", "z_o"), 3)
    through |= dict.fromkeys("ifg", 5) | dict.fromkeys(("o", "a"), 7)
    compared = {
        str(Name(f"d{q}", equation)): by_graph[name]
        for name in by_graph
        for q, equation in through.items()
        if Name.parse(name).quantity == q
    }
    assert len(compared) == 10
    assert_close({name: by_hand[name] for name in compared}, compared)


# --- cells are their equations, however they run --------------------------------------


@pytest.mark.parametrize("name", ["lstm", "min_gru"])
@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_asked_about_a_sequence_sees_the_equations(name, compiled):
    """Whatever runs it, and even where it ran before."""
    cell = CELLS[name]
    params, xs, _ = drawn_inputs(cell, 4, (1,))

    def run(params, xs):
        return lj.unroll(cell, params, xs)

    function = jax.jit(run) if compiled else run
    function(params, xs)
    one_by_one = cell._replace(linear=False)
    states, _ = lj.unroll(one_by_one, params, xs, gradient="automatic")
    [key] = {"lstm": ["h (7)"], "min_gru": ["h (3)"]}[name]
    found = graph.named_values(function, params, xs)
    assert_close(np.reshape(found[key], states.shape), states)
    assert key in graph.render(function, params, xs).mermaid
    after = lj.runner_of(cell, params)
    assert "asked" not in after.why
