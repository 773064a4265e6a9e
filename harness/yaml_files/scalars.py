"""What an unquoted YAML word stands for, without YAML 1.1's surprises.

YAML 1.1 (what PyYAML reads) and YAML 1.2 (what editors and most other tools read) disagree on some words:
`no`, `010`, `1:30`, `1e-3`. Numbers are read here as everybody would; words that a reader could silently
take for something else are refused with the way to write what was meant.
"""

from __future__ import annotations

import math
import re
from typing import Any

_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE = {"true", "True", "TRUE"}
_FALSE = {"false", "False", "FALSE"}
_YES = {"yes", "Yes", "YES", "on", "On", "ON"}
_NO = {"no", "No", "NO", "off", "Off", "OFF"}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_OTHER_BASE = re.compile(r"[-+]?0(x_*[0-9a-fA-F][0-9a-fA-F_]*|o_*[0-7][0-7_]*|b_*[01][01_]*)")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_UNDERSCORES = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LARGEST = 2**63 - 1


class Trap(Exception):
    """A word whose meaning depends on the reader; the message says how to write what was meant."""


def scalar(text: str) -> Any:
    """The value of an unquoted word: None, bool, int, float or str. Raises Trap."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text in _YES or text in _NO:
        meant = "true" if text in _YES else "false"
        raise Trap(f"some readers take {text} for {meant}, others for text; write {meant}, or '{text}' in quotes")
    if _WHOLE.fullmatch(text):
        return _whole(text)
    if _LEADING_ZERO.fullmatch(text):
        plain = text.lstrip("+-0").replace("_", "") or "0"
        raise Trap(f"some readers take {text} for an octal number; write {plain}, or '{text}' in quotes")
    if _DECIMAL.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise Trap(f"{_cut(text)} is too large a number")
        return value
    if _OTHER_BASE.fullmatch(text):
        value = int(text.replace("_", ""), 0)
        if abs(value) > _LARGEST:
            raise Trap(f"{_cut(text)} is too large a number")
        raise Trap(f"write {text} as a decimal number ({value}), or '{text}' in quotes")
    if _BASE_60.fullmatch(text):
        raise Trap(f"some readers take {text} for a number in base 60; write a plain number, or '{text}' in quotes")
    if _UNDERSCORES.fullmatch(text):
        plain = text.replace("_", "")
        raise Trap(f"some readers take {text} for a number, others for text; write {plain}, or '{text}' in quotes")
    if _NOT_FINITE.fullmatch(text):
        raise Trap(f"{text} is not a finite number; leave the key out if there is no number")
    return text


def value(text: str) -> Any:
    """The value of a text of the command line, read as in a file: a word (`scalar`), a quoted text, a list or a mapping
    of these (`[64, 128]`, `{a: 1}`). Raises Trap."""
    if text[:1] not in tuple("[{'\""):
        return scalar(text)
    import yaml

    try:
        return _of_node(yaml.compose(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError):
        what = {"[": "list", "{": "mapping"}.get(text[0], "quoted text")
        raise Trap(f"{_cut(text)} begins as a {what} and is none; write text in quotes within quotes") from None


def _of_node(node: Any) -> Any:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [_of_node(each) for each in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(_of_node(key)): _of_node(each) for key, each in node.value}
    return node.value if node.style else scalar(node.value)


def _whole(text: str) -> int:
    # Python refuses to convert thousands of digits, and NumPy holds 64 bits.
    if len(text) > 20 or abs(int(text)) > _LARGEST:
        raise Trap(f"{_cut(text)} is too large a number")
    return int(text)


def _cut(text: str) -> str:
    return f"{text[:20]}{'...' if len(text) > 20 else ''}"
