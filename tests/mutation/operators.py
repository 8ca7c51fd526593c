"""Small wrong changes to Python source, one at a time: what tests of true values must notice.

A change replaces a few characters, so that lines keep their numbers and the rest its form.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "/", "%": "*", "**": "*"}
_ARITHMETIC |= {"@": "+", "|": "&", "&": "|", "^": "&", "<<": ">>", ">>": "<<"}
_COMPARISON = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
_COMPARISON |= {"in": "not in", "not in": "in", "is": "is not", "is not": "is"}
_BOOLEAN = {"and": "or", "or": "and"}
_SYMBOL = re.compile(rb"\*\*|//|<<|>>|<=|>=|==|!=|[-+*/%@|&^<>]|not\s+in\b|is\s+not\b|\w+")


@dataclass(frozen=True)
class Mutant:
    """One changed file.

    Attributes
    ----------
    path : str
        The file, relative to the repository.
    line, last : int
        First and last line of the statement that is changed.
    code : str
        That line's text, without indentation.
    change : str
        What became what.
    always : bool
        Whether the statement runs when the module is imported, whichever test asks for it.
    content : bytes
        The file's new content.
    """

    path: str
    line: int
    last: int
    code: str
    change: str
    always: bool
    content: bytes

    def __repr__(self) -> str:
        return f"{self.path}:{self.line}: {self.code}   [{self.change}]"


@dataclass(frozen=True)
class _Edit:
    start: int
    end: int
    new: str


class _Source:
    """Python source by byte offsets."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.lines = content.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def start(self, node: ast.AST) -> int:
        return self.starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self.starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def text(self, node: ast.AST) -> str:
        return self.content[self.start(node) : self.end(node)].decode()

    def replaced(self, node: ast.AST, new: str) -> _Edit:
        return _Edit(self.start(node), self.end(node), new)

    def swapped(self, left: ast.AST, right: ast.AST, table: dict[str, str]) -> Iterator[_Edit]:
        """Replace the operator that stands between two expressions."""
        begin, finish = self.end(left), self.start(right)
        for match in _SYMBOL.finditer(self.content, begin, finish):
            old = " ".join(match.group().decode().split())
            if old in table:
                yield _Edit(match.start(), match.end(), table[old])
                return


def mutants(path: str, content: bytes) -> list[Mutant]:
    """Give all changes of a file that are worth trying."""
    source = _Source(content)
    tree = ast.parse(content)
    made = []
    for statement, always in _statements(tree.body, always=True):
        for edit in _edits(statement, source):
            new = content[: edit.start] + edit.new.encode() + content[edit.end :]
            try:
                compile(new, path, "exec")
            except SyntaxError:
                continue
            old = content[edit.start : edit.end].decode()
            at = content.count(b"\n", 0, edit.start) + 1
            code = source.lines[at - 1].decode().strip()
            first, last = _span(statement)
            change = f"{_short(old)} -> {_short(edit.new) or 'nothing'}"
            made.append(Mutant(path, first, last, code, change, always, new))
    return made


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 40 else f"{words[:37]}..."


def _span(statement: ast.stmt) -> tuple[int, int]:
    """Give the lines of a statement, of a compound one those of its head."""
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno or statement.lineno
    return statement.lineno, max(statement.lineno, last)


def _statements(body: list[ast.stmt], always: bool) -> Iterator[tuple[ast.stmt, bool]]:
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            continue
        yield statement, always or isinstance(statement, ast.FunctionDef)
        inside = always and not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
        for part in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, part, []), inside)
        for handler in getattr(statement, "handlers", []):
            yield from _statements(handler.body, inside)


def _edits(statement: ast.stmt, source: _Source) -> Iterator[_Edit]:
    """Give the changes of a statement, without those of statements inside it."""
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.ClassDef() | ast.Assert() | ast.Global():
            return
        case ast.Expr(value=ast.Constant()):
            return  # a docstring
        case ast.Expr(value=ast.Call()):
            yield source.replaced(statement, "pass")
        case ast.Raise(exc=ast.expr()):
            yield source.replaced(statement, "pass")
            return  # the words of a message are no true values
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield source.replaced(value, "None")
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return
        case ast.Assign(targets=[ast.Name()], value=value) if not _is_none(value):
            yield source.replaced(value, "None")
        case ast.AugAssign():
            yield from source.swapped(statement.target, statement.value, _ARITHMETIC)
        case ast.If() | ast.While():
            yield source.replaced(statement.test, f"(not ({source.text(statement.test)}))")
        case ast.Break():
            yield source.replaced(statement, "continue")
        case ast.Continue():
            yield source.replaced(statement, "break")
    for node in _expressions(statement):
        yield from _expression_edits(node, source)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


_PASSED_OVER = frozenset({"annotation", "returns", "decorator_list", "body", "orelse", "finalbody"})
_PASSED_OVER |= {"handlers", "format_spec", "type_params"}


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """Give the expressions of a statement, but annotations, decorators, and words of messages."""
    for name, value in ast.iter_fields(node):
        if name in _PASSED_OVER and not (
            isinstance(node, ast.Lambda | ast.IfExp) and name in ("body", "orelse")
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.JoinedStr):
                for part in child.values:
                    if isinstance(part, ast.FormattedValue):
                        yield from _expressions(part)
            elif isinstance(child, ast.expr):
                yield child
                yield from _expressions(child)
            elif isinstance(child, ast.AST) and not isinstance(child, ast.stmt):
                yield from _expressions(child)


def _expression_edits(node: ast.expr, source: _Source) -> Iterator[_Edit]:
    match node:
        case ast.BinOp():
            yield from source.swapped(node.left, node.right, _ARITHMETIC)
        case ast.Compare(ops=[_]):
            yield from source.swapped(node.left, node.comparators[0], _COMPARISON)
        case ast.Compare():
            for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
                yield from source.swapped(left, right, _COMPARISON)
        case ast.BoolOp():
            yield from source.swapped(node.values[0], node.values[1], _BOOLEAN)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield source.replaced(node, f"({source.text(node.operand)})")
        case ast.IfExp():
            yield source.replaced(node.test, f"(not ({source.text(node.test)}))")
        case ast.Call(keywords=keywords):
            for keyword in keywords:
                if keyword.arg is not None:
                    yield source.replaced(keyword, "")
        case ast.Constant(value=bool() as value):
            yield source.replaced(node, str(not value))
        case ast.Constant(value=int() | float() as value):
            yield source.replaced(node, repr(value + 1))
        case ast.Constant(value=str() as value) if value:
            yield source.replaced(node, f"({source.text(node)} + 'XX')")
