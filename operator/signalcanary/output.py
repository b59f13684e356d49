"""One document, as text for people or as JSON or YAML for programs."""

from __future__ import annotations

import json
from typing import Any

import yaml


def show(document: Any, text: str, output: str) -> None:
    """Print a document in the form that was asked for: text, json or yaml."""
    match output:
        case "json":
            print(json.dumps(document, indent=2, ensure_ascii=False))
        case "yaml":
            print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end="")
        case _:
            print(text, end="")
