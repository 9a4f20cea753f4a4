"""layers ← models ← zoo ← recipes ← training, by the imports in the source."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Parts of the package in the order of dependence: none imports a later one.
ORDER = ("layers", "models", "zoo", "recipes", "cli", "training")

# A layer or a model knows no weights, data or names.
FORBIDDEN = {
    "layers": {"models", "data", "robustness", "callbacks", "export"},
    "models": {"data", "robustness", "callbacks"},
}


# A checkpoint of a release becomes the model of the zoo that it belongs to.
EXCEPTIONS = {("keras_polynets/convert/torch_quadralib.py", "zoo")}


def imports(path, package):
    """Yields the dotted names that a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            module = ".".join(
                [*base, node.module or ""] if node.level else [node.module]
            )
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part(dotted):
    """Returns the part that a dotted name belongs to, `None` if not ours."""
    words = dotted.split(".")
    if words[0] == "training":
        return "training"
    if words[0] == "keras_polynets":
        return words[1] if len(words) > 1 else "keras_polynets"
    return None


def allowed(own, other):
    """Returns whether the part `own` may import the part `other`."""
    if other in FORBIDDEN.get(own, ()):
        return False
    # What is not in the order stands below the zoo, which it does not know.
    own = own if own in ORDER else "models"
    return other not in ORDER or ORDER.index(other) <= ORDER.index(own)


def sources():
    for folder in ("keras_polynets", "training"):
        yield from sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    "path", [str(path.relative_to(ROOT)) for path in sources()]
)
def test_no_file_imports_what_is_above_it(path):
    dotted = path.removesuffix(".py").replace("/", ".").split(".")
    own = part(".".join(dotted))
    if own in ("__init__", "_version"):
        return
    for name in imports(ROOT / path, dotted[:-1]):
        other = part(name)
        if other is not None and other != own:
            known = (path, other) in EXCEPTIONS or allowed(own, other)
            assert known, f"{path} imports {name}"


def test_the_check_sees_every_form_of_import(tmp_path):
    path = tmp_path / "ccp.py"
    path.write_text(
        "import keras_polynets.models.zoo_model\n"
        "def f():\n"
        "    from keras_polynets import zoo\n"
        "    from ..recipes import run\n"
        "    from training import train\n"
    )
    found = [part(n) for n in imports(path, ["keras_polynets", "layers"])]
    assert sorted(found) == ["models", "recipes", "training", "zoo"]
    assert allowed("layers", "constraints") and allowed("models", "layers")
    assert allowed("robustness", "layers") and allowed("recipes", "zoo")
    for own, other in (
        ("layers", "models"),
        ("layers", "robustness"),
        ("models", "zoo"),
        ("robustness", "zoo"),
        ("zoo", "recipes"),
        ("recipes", "training"),
    ):
        assert not allowed(own, other)
