"""The program that measures what attacks leave of the trained networks."""

import json

import keras
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)


def test_results_and_table(tmp_path, monkeypatch):
    from training import attacks

    few = {"clean": None, "PGD": "pgd:0.1,4,0.03", "APGD-T": "apgd_t:0.1,4"}
    monkeypatch.setattr(attacks, "ATTACKS", few)
    name = "pn4.fashion_mnist_projected"
    words = ["--output", str(tmp_path), "--models", name, "--images", "20"]
    attacks.main(words)
    found = json.loads((tmp_path / "attacks.json").read_text())
    assert [record["attack"] for record in found] == list(few.values())
    assert {record["images"] for record in found} == {20}
    clean, *attacked = (record["accuracy"] for record in found)
    assert 0 < max(attacked) < clean < 1
    cells = " | ".join(f"{share:.3f}" for share in (clean, *attacked))
    table = (tmp_path / "attacks.md").read_text()
    assert table.endswith(f"| `{name}` | 20 | {cells} |\n")

    def measure(*args, **kwargs):
        raise AssertionError("It is known.")

    monkeypatch.setattr(attacks, "robust_accuracy", measure)
    attacks.main(words)
    assert (tmp_path / "attacks.md").read_text() == table
