"""Reads a PromQL expression far enough to say which metrics and labels it uses.

Not an evaluator and not a validator (promtool is that, where it is installed): a tokenizer for the whole lexical grammar
and one pass that tells metrics from functions, label lists and keywords. Its purpose is a test: a query that names a
metric or label which no node exports shows an empty panel for ever, or an alert that can never fire.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|\#[^\n]*)
    | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    | (?P<duration>[0-9]+(?:ms|[smhdwy])(?:[0-9]+(?:ms|[smhdwy]))*)
    | (?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<name>[a-zA-Z_][a-zA-Z0-9_:]*)
    | (?P<operator>==|!=|=~|!~|<=|>=|[-+*/%^<>=(){}\[\],:@])
    """,
    re.VERBOSE,
)
_KEYWORDS = frozenset({"and", "or", "unless", "offset", "bool", "atan2", "inf", "nan", "start", "end"})
_LABEL_LISTS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_MATCHES = frozenset({"=", "!=", "=~", "!~"})
_GRAFANA = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}


class QueryError(ValueError):
    """The text is not PromQL."""


class Matcher(Struct, frozen=True):
    """One label match of a selector: label, operator, value."""

    label: str
    operator: str
    value: str


class Selector(Struct, frozen=True):
    """A metric and what its labels must be."""

    metric: str
    matchers: tuple[Matcher, ...] = ()


class Query(Struct, frozen=True):
    """What an expression asks for. `grouped` are the labels in by, on, without... lists."""

    selectors: tuple[Selector, ...]
    grouped: frozenset[str]

    @property
    def metrics(self) -> frozenset[str]:
        """Names of all metrics."""
        return frozenset(selector.metric for selector in self.selectors)


def parse(expression: str) -> Query:
    """The metrics and labels of an expression; raises QueryError. Grafana's interval variables are understood."""
    for variable, value in _GRAFANA.items():
        expression = expression.replace(variable, value)
    tokens = _tokens(expression)
    _check_brackets(tokens, expression)
    selectors: list[Selector] = []
    grouped: set[str] = set()
    position = 0
    while position < len(tokens):
        kind, text = tokens[position]
        after = tokens[position + 1][1] if position + 1 < len(tokens) else ""
        position += 1
        if kind == "operator" and text == "{":
            matchers, position = _matchers(tokens, position, expression)
            names = [m.value for m in matchers if m.label == "__name__" and m.operator == "="]
            if not names:
                raise QueryError(f"a selector without a metric name in: {expression}")
            selectors.append(Selector(names[0], tuple(m for m in matchers if m.label != "__name__")))
        elif kind != "name" or text.lower() in _KEYWORDS:
            continue
        elif text.lower() in _LABEL_LISTS:
            if after == "(":
                labels, position = _labels(tokens, position + 1, expression)
                grouped.update(labels)
        elif after == "{":
            matchers, position = _matchers(tokens, position + 1, expression)
            selectors.append(Selector(text, matchers))
        elif after != "(" and after.lower() not in ("by", "without"):
            selectors.append(Selector(text))
    return Query(tuple(selectors), frozenset(grouped))


def _tokens(expression: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise QueryError(f"unexpected {expression[position]!r} at {position} in: {expression}")
        position = match.end()
        if match.lastgroup != "space":
            tokens.append((str(match.lastgroup), match.group()))
    return tokens


def _check_brackets(tokens: Sequence[tuple[str, str]], expression: str) -> None:
    closing = {"(": ")", "[": "]", "{": "}"}
    waiting: list[str] = []
    for kind, text in tokens:
        if kind == "operator" and text in closing:
            waiting.append(closing[text])
        elif kind == "operator" and text in closing.values() and (not waiting or waiting.pop() != text):
            raise QueryError(f"{text!r} closes nothing in: {expression}")
    if waiting:
        raise QueryError(f"{waiting[-1]!r} is missing in: {expression}")


def _matchers(tokens: Sequence[tuple[str, str]], position: int, expression: str) -> tuple[tuple[Matcher, ...], int]:
    """The matches up to the closing brace, and the position behind it."""
    found: list[Matcher] = []
    while tokens[position][1] != "}":
        taken = tokens[position : position + 3]
        shape = [kind for kind, _ in taken]
        if shape != ["name", "operator", "string"] or taken[1][1] not in _MATCHES:
            raise QueryError(f"not a label match at {tokens[position][1]!r} in: {expression}")
        (_, label), (_, operator), (_, value) = taken
        found.append(Matcher(label, operator, value[1:-1]))
        position += 3
        if tokens[position][1] == ",":
            position += 1
    return tuple(found), position + 1


def _labels(tokens: Sequence[tuple[str, str]], position: int, expression: str) -> tuple[list[str], int]:
    """The names up to the closing parenthesis, and the position behind it."""
    found: list[str] = []
    while tokens[position][1] != ")":
        kind, text = tokens[position]
        if kind == "name":
            found.append(text)
        elif text != ",":
            raise QueryError(f"not a label name: {text!r} in: {expression}")
        position += 1
    return found, position + 1
