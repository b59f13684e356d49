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
    (?P<operator>=~|!~|!=|=)? (?P<space>[ \t\r\n]*)
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
MATCHER_HELP: Final = (
    "close every quote and every {{, and write {{…}} within a label matcher's quotes only, as in "
    '{symbol="{{symbol}}"}'
)


def _build_pattern() -> str:
    """The rules of `check` on where placeholders stand, as one expression of RE2.

    A quote is \\x22, \\x27 or \\x60, so that it can stand within quotes itself. What may hold no
    {{ is written as texts that begin with at most one {, and that do not begin with another.
    """

    def inside(quote: str, more: str = "") -> str:
        return rf"(?:{{?(?:[^{quote}\\\n{{]|\\.){more})*{{?"

    placeholder = rf"|{{{{(?:{'|'.join(PLACEHOLDERS)})}}}}"
    quotes = (r"\x22", r"\x27")
    matchers = "|".join(f"{quote}{inside(quote, placeholder)}{quote}" for quote in quotes)
    strings = "|".join(f"{quote}{inside(quote)}{quote}" for quote in quotes)
    raw, comment, other = (
        r"\x60(?:{?[^\x60{])*{?\x60",
        r"#[^\n]*(?:\n|$)",
        r"[^\x22\x27\x60#{]",
    )
    matcher = rf"(?:=~|!~|!=|=)[ \t\r\n]*(?:{matchers})"
    return rf"(?s)^(?:{{?(?:{matcher}|{strings}|{raw}|{comment}|{other}))*{{?$"


PATTERN: Final = _build_pattern()
"""What a query matches whose placeholders stand where they may; for the API server, which has no
lexer."""
ESCAPED: Final = "\\{{"
"""What stands nowhere: whether an escape or a placeholder begins there hangs on what is before."""
EMPTY_HELP: Final = "the query is empty: write PromQL that gives one number"
ESCAPED_HELP: Final = "write no \\ before {{: it cannot be told what it escapes"


def check(query: str) -> None:
    """See that a query can be filled in.

    Raises:
        ValueError: it cannot; the message says what to write.
    """
    if not query.strip():
        raise ValueError(EMPTY_HELP)
    if ESCAPED in query:
        raise ValueError(ESCAPED_HELP)
    for token in _tokens(query):
        text = token.group()
        if token["open"]:
            raise ValueError(f"a quote {text} is not closed: write another at its end")
        for found in _PLACEHOLDER.finditer(text):
            if found[1] not in PLACEHOLDERS:
                raise ValueError(f"unknown placeholder {found[0][:40]}: {PLACEHOLDER_HELP}")
            if token["comment"]:
                continue  # not filled in there
            if not token["operator"]:
                raise ValueError(
                    f"{found[0]} stands outside a label matcher's quotes: write it as in "
                    '{symbol="{{symbol}}"}'
                )
        if not token["comment"] and "{{" in _PLACEHOLDER.sub("…", text):
            raise ValueError(f"{{{{ is not closed: {MATCHER_HELP}")
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
