"""A mistyped verb or option: the nearest one, said in the error.

It is said and never done: some verbs act on a cluster.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

LEAST_LIKENESS = 0.6
"""Of two words, by difflib; what is less alike is a guess."""


def parse(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    verbs: Mapping[str, argparse.ArgumentParser] | None = None,
) -> argparse.Namespace:
    """Parse a command line; one that is wrong ends the process with code 2, as argparse has it.

    Args:
        verbs: by their names; None of a parser without.
    """
    verb = next((argument for argument in arguments if not argument.startswith("-")), None)
    if verbs and verb is None:
        _refuse(parser, [a for a in arguments if not _begins_any(a, _options_of(parser))])
    if verbs and verb is not None and verb not in verbs:
        meant = _meant(verb, verbs)
        # Without one, argparse names all that there are.
        if meant:
            parser.error(f"there is no verb {verb}: did you mean {meant}?")
    parsed, unknown = parser.parse_known_args(arguments)
    _refuse(verbs[parsed.verb] if verbs else parser, unknown)
    return parsed


def _refuse(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> None:
    """End with what is unknown, if anything is."""
    if not unknown:
        return
    options = [argument.partition("=")[0] for argument in unknown if argument.startswith("-")]
    hints = [
        f"instead of {option} did you mean {meant}?"
        for option in options
        if (meant := _meant(option, _options_of(parser)))
    ]
    parser.error("; ".join([f"unrecognized arguments: {' '.join(unknown)}", *hints]))


def _options_of(parser: argparse.ArgumentParser) -> Collection[str]:
    return parser._option_string_actions  # argparse has no other list of them


def _begins_any(word: str, options: Collection[str]) -> bool:
    return any(option.startswith(word) for option in options)


def _meant(word: str, known: Collection[str]) -> str:
    """The nearest of them; empty if none is near."""
    return next(iter(get_close_matches(word, known, 1, LEAST_LIKENESS)), "")
