"""Every public class and function has a complete docstring."""

import ast
import functools
import importlib.util
import inspect
import pathlib
import re
import textwrap

import keras
import pytest

import keras_polynets
from keras_polynets import cli

SECTIONS = (
    "Args",
    "Call arguments",
    "Example",
    "Input shape",
    "Output shape",
    "Raises",
    "Reference",
    "References",
    "Returns",
    "Yields",
)


@functools.cache
def _names():
    path = pathlib.Path(__file__).with_name("test_public_names.py")
    spec = importlib.util.spec_from_file_location("public_names", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.public_members()) | {"keras_polynets.cli.main": cli.main}


def sections(docstring):
    """Returns `{title: text}`; the text before them has the title ''."""
    found = {"": ""}
    title = ""
    for line in inspect.cleandoc(docstring).split("\n"):
        match = re.fullmatch(r"([A-Z][a-z ]+):", line)
        if match and match[1] in SECTIONS:
            title = match[1]
            found[title] = ""
        else:
            found[title] += line + "\n"
    return found


def parameters(member):
    """Returns the names that "Args" has to list."""
    prefix = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    return [
        prefix.get(parameter.kind, "") + name
        for name, parameter in inspect.signature(member).parameters.items()
        if name != "self"
    ]


def defects(name, member):
    """Returns what the docstring of a class or function lacks."""
    docstring = member.__doc__
    if not docstring:
        return [f"{name}: no docstring"]
    found = sections(docstring)
    first = found[""].strip().split("\n")[0]
    lacks = [] if first.endswith((".", ":")) else ["a first line that ends"]
    lacks += _wrong_arguments(member, found.get("Args", ""))
    if inspect.isfunction(member):
        body = _own_statements(member)
        returns = any(isinstance(s, ast.Return) and s.value for s in body)
        if returns and not re.match("Returns|Yields", first):
            lacks += [] if "Returns" in found else ["Returns"]
        if any(isinstance(s, ast.Raise) and s.exc for s in body):
            lacks += [] if "Raises" in found else ["Raises"]
    if isinstance(member, type) and issubclass(member, keras.Layer):
        if not issubclass(member, keras.Model):
            shapes = ("Input shape", "Output shape")
            lacks += [shape for shape in shapes if shape not in found]
    return [f"{name}: {lack}" for lack in lacks]


def _wrong_arguments(member, text):
    """Returns what is wrong with the section "Args"."""
    expected = parameters(member)
    listed = re.findall(r"^    (\*{0,2}\w+):", text, re.M)
    named = [*listed, *re.findall(r"`(\w+)`", text)]
    surplus = [name for name in listed if name not in expected]
    if "**kwargs" in expected and surplus:
        # The arguments behind `**kwargs` are listed one by one.
        expected.remove("**kwargs")
        surplus = []
    return [f"Args: {name}" for name in expected if name not in named] + [
        f"no such parameter: {name}" for name in surplus
    ]


def _own_statements(function):
    """Yields the nodes of a function, without functions inside it."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    todo = list(ast.parse(source).body[0].body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            todo.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("name", _names())
def test_docstring_is_complete(name):
    assert defects(name, _names()[name]) == []


@pytest.mark.parametrize(
    "name", [n for n, member in _names().items() if isinstance(member, type)]
)
def test_new_methods_have_docstrings(name):
    """Methods that Keras documents already need no docstring here."""
    cls = _names()[name]
    missing = [
        method
        for method, function in vars(cls).items()
        if not method.startswith("_")
        and (inspect.isfunction(function) or isinstance(function, property))
        and not function.__doc__
        and not any(hasattr(base, method) for base in cls.__mro__[1:])
    ]
    assert missing == []


def test_every_module_says_what_it_is():
    package = pathlib.Path(keras_polynets.__file__).parent
    silent = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if path.name != "_version.py"
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_the_checks_find_what_lacks():
    def f(a, *, b):
        """Does something

        Args:
            a: A thing.
            c: Another.
        """
        if a:
            raise ValueError(a)
        return b

    assert defects("f", f) == [
        "f: a first line that ends",
        "f: Args: b",
        "f: no such parameter: c",
        "f: Returns",
        "f: Raises",
    ]
