"""The program that writes the table of certificates."""

import json

import keras
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)


def test_results_and_page(tmp_path, capsys):
    from training import certificates

    results, page = tmp_path / "results.json", tmp_path / "page.md"
    name = "pn4.fashion_mnist_projected"
    words = ["--results", str(results), "--page", str(page), "--limit", "20"]
    words += ["--slopes-limit", "30"]
    words += ["--epsilon", "0.01", "--models", name]
    certificates.main(words)
    found = json.loads(results.read_text())[name]
    row = found["certificates"][0]
    assert (found["examples"], found["slope_examples"]) == (20, 30)
    assert row["global"] <= row["auto"] <= row["attacked"] <= found["clean"]
    assert found["gradient_norm"] <= found["local_lipschitz_bound"]
    assert found["local_lipschitz_bound"] < found["lipschitz_bound"]
    assert f"| `{name}` | 20 | 0.01 | {found['clean']:.3f}" in page.read_text()
    # What exists is kept: the second run only writes the page again.
    capsys.readouterr()
    page.unlink()
    certificates.main(words)
    assert name not in capsys.readouterr().out
    assert page.exists()
    # Attacks alone come out as before.
    changed = {name: json.loads(results.read_text())[name]}
    left = changed[name]["certificates"][0].pop("attacked")
    results.write_text(json.dumps(changed))
    certificates.main([*words, "--attack-again"])
    again = json.loads(results.read_text())[name]["certificates"][0]
    assert again["attacked"] == left and again["auto"] == row["auto"]
