"""`numbered`: the number of an equation, as a comment, names what its line assigns.

A function under ``@numbered`` reads as the equations do::

    c = i * g + f * c_prev  # (5)
    a = tanh(c)  # (6)

and does what these two lines would::

    c = named(i * g + f * c_prev, "c", 5)
    a = named(tanh(c), "a", 6)

A comment counts that begins with a number in parentheses and follows an assignment, at
its end; whatever text follows the number is a remark.

* In a reverse the number is that of the equation gone through: after
  ``df = dc * c_prev  # (5)``, df is ∂J/∂f through equation (5).
* ``i, f = sigmoid(z_i), sigmoid(z_f)  # (3)`` names both, and so does unpacking what
  a call returns. Names that begin with an underscore are not named.
* ``a = tanh(c)  # (6) again`` computes a once more, where a reverse needs what was not
  kept: with the word "again" after the number, the line names nothing.
* Comments on lines of their own are prose, whatever they begin with.

The function's own code is compiled again from its source, for the same lines of the
same file, and put in the place of what it had. The function itself, its closure, its
defaults and whatever wraps it stay what they were. Where there is no source (code made
by `exec`, the interpreter's prompt before Python 3.13), call `lstm_jax.named` instead.
"""

import __future__

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, NoReturn, TypeVar

from lstm_jax.cell import named

Function = TypeVar("Function", bound=Callable[..., Any])

NAMED = "__lstm_jax_named__"
"""The global under which numbered functions find `lstm_jax.named`."""

_NUMBER = re.compile(r"#\s*\((?P<number>\d+)\)(?P<rest>.*)")
_AGAIN = re.compile(r"\s*again\b")
_ANOTHER = re.compile(r"\s*(,|and|to|-|–)?\s*\(\d+\)")
_FUTURE = sum(
    getattr(__future__, name).compiler_flag for name in __future__.all_feature_names
)


def numbered(function: Function) -> Function:
    """Names what a function assigns on lines that end in ``# (number)``; see above.

    Args:
        function: one made by ``def``, or what wraps one and says so by `__wrapped__`.

    Returns:
        The same object. The function's code was replaced.

    Raises:
        TypeError: no such function.
        OSError: its source can't be had.
        SyntaxError: a number where nothing is assigned that could be named, with file
            and line.
    """
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType) or plain.__name__ == "<lambda>":
        raise TypeError(f"numbered takes a function made by def; got {function!r}")
    code = _compiled(definition(plain), plain.__code__)
    if _signature(code) != _signature(plain.__code__):
        raise _no_source(plain)
    plain.__globals__[NAMED] = named
    plain.__code__ = code
    return function


def definition(function: FunctionType) -> ast.FunctionDef:
    """The syntax tree of a function, where it stands in its file, with its names.

    Raises:
        OSError: its source can't be had.
        SyntaxError: as in `numbered`.
    """
    try:
        lines, first = inspect.getsourcelines(function)
        before = ["if True:\n"] if lines[0][:1].isspace() else []
        lines = before + lines
        tree = ast.parse("".join(lines))
    except (OSError, SyntaxError, tokenize.TokenError) as error:
        raise _no_source(function) from error
    found = tree.body[0]
    if before and isinstance(found, ast.If):
        found = found.body[0]
    if not isinstance(found, ast.FunctionDef) or found.name != function.__name__:
        raise _no_source(function)
    shift = first - 1 - len(before)
    namer = _Namer(_numbers(lines), function.__code__.co_filename, lines, shift)
    namer.visit(found)
    namer.check_all_used()
    ast.increment_lineno(ast.fix_missing_locations(found), shift)
    return found


def _numbers(lines: list[str]) -> dict[int, int]:
    """The numbers that follow code, by line; those that come again are left out."""
    numbers = {}
    for token in tokenize.generate_tokens(io.StringIO("".join(lines)).readline):
        line, column = token.start
        found = _NUMBER.match(token.string)
        if token.type != tokenize.COMMENT or found is None:
            continue
        if lines[line - 1][:column].strip() and not _AGAIN.match(found["rest"]):
            several = _ANOTHER.match(found["rest"])
            numbers[line] = -1 if several else int(found["number"])
    return numbers


class _Namer(ast.NodeTransformer):
    """Puts the calls of `named` into a tree, which is that of some lines of a file."""

    def __init__(
        self, numbers: dict[int, int], file: str, lines: list[str], shift: int
    ) -> None:
        self.numbers, self.used, self.calls = numbers, set(), 0
        self.file, self.lines, self.shift = file, lines, shift

    def visit(self, node: ast.AST) -> Any:
        """Names what a statement assigns, if a number follows it."""
        line = getattr(node, "end_lineno", None)
        simple = isinstance(node, ast.stmt) and not hasattr(node, "body")
        if line not in self.numbers or not simple or isinstance(node, ast.Match):
            return self.generic_visit(node)
        self.used.add(line)
        if self.numbers[line] < 0:
            self._fail(line, "an assignment has one equation's number")
        later: list[ast.Name] = []
        calls = self.calls
        match node:
            case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
                if node.value is None:
                    self._fail(line, "nothing is assigned here")
                node.value = self._bound(target, node.value, line, later)
            case ast.AugAssign(target=ast.Name() as target):
                later.append(target)
            case _:
                self._fail(line, "a number names what one assignment gives to names")
        after = [self._renamed(name, line) for name in later]
        if self.calls == calls:
            self._fail(line, "names that begin with an underscore have no number")
        return [node, *(ast.copy_location(statement, node) for statement in after)]

    def _bound(
        self, target: ast.expr, value: ast.expr, line: int, later: list[ast.Name]
    ) -> ast.expr:
        """`value` with names; what can't be named within it is for `later`."""
        if isinstance(target, ast.Name):
            own = target.id.startswith("_")
            return value if own else self._call(value, target.id, line)
        if not isinstance(target, (ast.Tuple, ast.List)):
            self._fail(line, "only what is assigned to names can have a number")
        if isinstance(value, (ast.Tuple, ast.List)) and _one_to_one(target, value):
            pairs = zip(target.elts, value.elts, strict=True)
            value.elts = [self._bound(t, v, line, later) for t, v in pairs]
            return value
        for part in target.elts:
            self._unpacked(part, line, later)
        return value

    def _unpacked(self, target: ast.expr, line: int, later: list[ast.Name]) -> None:
        """Adds the names that a part of a target has."""
        if isinstance(target, (ast.Tuple, ast.List)):
            for part in target.elts:
                self._unpacked(part, line, later)
        elif not isinstance(target, ast.Name):
            self._fail(line, "only what is assigned to names can have a number")
        elif not target.id.startswith("_"):
            later.append(target)

    def _renamed(self, name: ast.Name, line: int) -> ast.Assign:
        loaded = ast.copy_location(ast.Name(name.id, ast.Load()), name)
        stored = ast.copy_location(ast.Name(name.id, ast.Store()), name)
        return ast.Assign([stored], self._call(loaded, name.id, line))

    def _call(self, value: ast.expr, name: str, line: int) -> ast.Call:
        self.calls += 1
        number = ast.Constant(self.numbers[line])
        function = ast.Name(NAMED, ast.Load())
        call = ast.Call(function, [value, ast.Constant(name), number], [])
        return ast.copy_location(call, value)

    def check_all_used(self) -> None:
        """Raises where a number follows no statement's end."""
        for line in sorted(self.numbers.keys() - self.used):
            self._fail(line, "a number stands after the end of an assignment")

    def _fail(self, line: int, message: str) -> NoReturn:
        text = self.lines[line - 1]
        place = self.file, line + self.shift, text.index("#") + 1, text
        raise SyntaxError(f"numbered: {message}", place)


def _one_to_one(target: ast.Tuple | ast.List, value: ast.Tuple | ast.List) -> bool:
    starred = any(isinstance(v, ast.Starred) for v in (*target.elts, *value.elts))
    return len(target.elts) == len(value.elts) and not starred


def _compiled(tree: ast.FunctionDef, old: CodeType) -> CodeType:
    """The code of a definition that takes the place of `old`, closure and all."""
    body: list[ast.stmt] = [tree]
    if old.co_freevars:
        text = f"def outside({', '.join(old.co_freevars)}): pass"
        [outside] = ast.parse(text).body
        vars(outside)["body"], body = body, [outside]
    flags = old.co_flags & _FUTURE
    module = ast.Module(body, [])
    code = compile(module, old.co_filename, "exec", flags=flags, dont_inherit=True)
    place = old.co_name, old.co_firstlineno
    found = [c for c in _within(code) if (c.co_name, c.co_firstlineno) == place]
    return found[0].replace(co_qualname=old.co_qualname)


def _within(code: CodeType) -> Iterator[CodeType]:
    """All code objects that one holds, from the outside."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _within(constant)


def _signature(code: CodeType) -> tuple[Any, ...]:
    count = code.co_argcount + code.co_kwonlyargcount
    return code.co_varnames[:count], code.co_argcount, code.co_freevars


def _no_source(function: FunctionType) -> OSError:
    return OSError(
        f"numbered reads the source of {function.__qualname__}, which can't be had "
        f"from {function.__code__.co_filename!r}; call lstm_jax.named there instead"
    )
