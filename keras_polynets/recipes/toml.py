"""Writes TOML, which the standard library only reads."""

import json


def dumps(values):
    """Returns a dictionary of scalars, arrays and dictionaries as TOML."""
    return "\n".join(_lines(values, ())).lstrip("\n") + "\n"


def _lines(values, path):
    tables = {k: v for k, v in values.items() if isinstance(v, dict)}
    lines = [
        f"{_key(key)} = {_value(value)}"
        for key, value in values.items()
        if key not in tables
    ]
    if path and (lines or not tables):
        lines = ["", f"[{'.'.join(map(_key, path))}]", *lines]
    for key, table in tables.items():
        lines += _lines(table, (*path, key))
    return lines


def _key(key):
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isascii() and bare.isalnum() else _value(key)


def _value(value):
    if isinstance(value, dict):
        pairs = (f"{_key(k)} = {_value(v)}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    # The strings, numbers and Booleans of JSON are those of TOML.
    return json.dumps(value, ensure_ascii=False)
