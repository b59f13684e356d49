"""Queries that a condition brings along: what may stand in them, and how they are filled in. Pure.

A placeholder such as ``{{symbol}}`` stands inside the quotes of a label matcher and nowhere else,
so that what is filled in can be a label's value and nothing more. The lexer knows of PromQL what
that takes: strings, comments, and the operator before a matcher's string.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

PLACEHOLDERS: Final = ("symbol", "namespace", "name", "revision", "track")
MAX_QUERY_LENGTH: Final = 2048

_PLACEHOLDER: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_TOKEN: Final = re.compile(
    r"""
    (?P<operator>=~|!~|!=|=)? (?P<space>\s*)
    (?P<string> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' )
    | (?P<raw> `[^`]*` )
    | (?P<comment> \#[^\n]* )
    | (?P<open> ["'`] )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_SPECIAL: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")
"""What means something in a regular expression of Prometheus (RE2)."""

PLACEHOLDER_HELP: Final = "write " + ", ".join(f"{{{{{name}}}}}" for name in PLACEHOLDERS)


def check(query: str) -> None:
    """See that a query can be filled in.

    Raises:
        ValueError: it cannot; the message says what to write.
    """
    if not query.strip():
        raise ValueError("the query is empty: write PromQL that gives one number")
    for token in _tokens(query):
        text = token.group()
        if token["open"]:
            raise ValueError(f"a quote {text} is not closed: write another at its end")
        for found in _PLACEHOLDER.finditer(text):
            if found[1] not in PLACEHOLDERS:
                raise ValueError(f"unknown placeholder {found[0][:40]}: {PLACEHOLDER_HELP}")
            if token["comment"]:
                continue  # not filled in there
            if not token["operator"] or text[: found.start()].endswith("\\"):
                raise ValueError(
                    f"{found[0]} stands outside a label matcher's quotes: write it as in "
                    '{symbol="{{symbol}}"}'
                )
        if token["other"] == "{" and query.startswith("{{", token.start()):
            raise ValueError(
                "{{…}} stands outside a label matcher's quotes: write it as in "
                '{symbol="{{symbol}}"}'
            )


def placeholders_of(query: str) -> set[str]:
    """Names of the placeholders that `fill` fills in."""
    return {
        found[1]
        for token in _tokens(query)
        if token["operator"]
        for found in _PLACEHOLDER.finditer(token.group())
    }


def fill(query: str, values: Mapping[str, str]) -> str:
    """A query that `check` has passed, with its placeholders filled in."""
    return "".join(
        _PLACEHOLDER.sub(lambda found, token=token: _escape(values[found[1]], token), token.group())  # type: ignore[misc]
        if token["operator"]
        else token.group()
        for token in _tokens(query)
    )


def _tokens(query: str) -> Iterator[re.Match[str]]:
    return _TOKEN.finditer(query)


def _escape(value: str, token: re.Match[str]) -> str:
    """A value as the inside of a matcher's string; in a regular expression it means itself."""
    if token["operator"].endswith("~"):
        value = _SPECIAL.sub(r"\\\g<0>", value)
    quote = token["string"][0]
    return value.replace("\\", "\\\\").replace(quote, f"\\{quote}").replace("\n", "\\n")


def escape(label_value: str) -> str:
    """A string as the inside of a PromQL double-quoted string."""
    return label_value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
