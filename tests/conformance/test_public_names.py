"""The public names and their signatures, which users hold on to.

`make golden` writes the list again; its difference is the change of contract.
"""

import inspect
import json
import pathlib
import re
import types

import keras_polynets
from keras_polynets import cli

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "public_names.json"


def public_members(module=keras_polynets):
    """Yields the dotted name and the object of all that is public.

    Public is what `__all__` lists or, in a module without it, the functions
    and classes that it defines.
    """
    names = getattr(module, "__all__", None) or [
        name
        for name, member in vars(module).items()
        if not name.startswith("_")
        and getattr(member, "__module__", None) == module.__name__
    ]
    for name in sorted(names):
        member = getattr(module, name)
        if isinstance(member, types.ModuleType):
            yield from public_members(member)
        elif callable(member):
            yield f"{module.__name__}.{name}", member


def signatures():
    """Returns `{dotted name: signature}`."""
    members = dict(public_members())
    members["keras_polynets.cli.main"] = cli.main
    return {
        name: str(inspect.signature(member))
        for name, member in sorted(members.items())
    }


def test_public_names_and_signatures():
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert signatures() == expected, (
        "Public names have changed. If that is meant, run `make golden`, and "
        "tell of it in CHANGELOG.md."
    )


def test_signatures_are_the_same_in_every_process():
    assert not re.search(r"0x[0-9a-f]{6}", json.dumps(signatures()))


if __name__ == "__main__":
    GOLDEN.write_text(
        json.dumps(signatures(), indent=2) + "\n", encoding="utf-8"
    )
