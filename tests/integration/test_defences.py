"""The programs that train the guided denoiser and measure defences."""

import json

import keras
import numpy as np
import pytest

from keras_polynets import zoo

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)
RUN = "--data fashion_mnist_sample --images 192 --validation 50 --test 12"
RUN += " --epochs 2 --rates 0.003 0.001 --attacks fgsm:0.1"
RUN += " --evaluation fgsm:0.1 --tag tried --zoo"


def test_a_denoiser_is_trained_and_published(tmp_path, monkeypatch, capfd):
    from training import denoiser

    assert denoiser.main([*RUN.split(), str(tmp_path)]) == 0
    monkeypatch.setenv("KERAS_POLYNETS_ZOO", str(tmp_path))
    model = zoo.load("guided_denoiser")
    folder = tmp_path / "guided_denoiser"
    with np.load(folder / "tried.reference.npz") as reference:
        outputs = model.predict(
            model.preprocessor(reference["images"]), verbose=0
        )
        np.testing.assert_allclose(outputs, reference["outputs"], atol=1e-4)
    result = json.loads((folder / "tried.json").read_text())
    assert (
        result == zoo.info("guided_denoiser.tried")["tags"]["tried"]["results"]
    )
    assert [trial["rate"] for trial in result["trials"]] == [0.003, 0.001]
    losses = [trial["val_loss"] for trial in result["trials"]]
    assert result["validation"]["loss"] == np.min(losses)
    row, column = np.unravel_index(np.argmin(losses), (2, 2))
    assert result["validation"]["rate"] == (0.003, 0.001)[row]
    assert result["validation"]["epoch"] == column
    assert result["training_examples"] == 192
    table = (tmp_path / "results.csv").read_text().splitlines()
    assert table[1].startswith("guided_denoiser,tried,66697,")
    assert denoiser.main(["--classifier", "pn5", "--zoo", str(tmp_path)]) == 1
    assert "error: Unknown model 'pn5'" in capfd.readouterr().err


def between(name):
    return f"<!-- {name} -->\n<!-- end of {name} -->\n"


def test_table_of_defences(tmp_path, capsys):
    from training import defences

    results, page = tmp_path / "results.json", tmp_path / "page.md"
    page.write_text("Said.\n" + between("table") + between("stronger"))
    words = ["--results", str(results), "--page", str(page)]
    words += ["--limit", "20", "--stronger", "10", "--validation", "10"]
    words += ["--data", "fashion_mnist_sample"]
    with pytest.raises(ValueError, match="'<!-- trials -->' and '<!-- end of"):
        defences.main(words)
    page.write_text(page.read_text() + between("trials") + "More.\n")
    found = json.loads(results.read_text())
    defences.write_page(page, found)
    text = page.read_text()
    assert text.startswith("Said.\n") and text.endswith("More.\n")
    row = found["rows"]["none"]
    through = row["fgsm:0.01"]["through"]
    assert f"| none | {row['clean']:.3f} | {through:.3f} | – |" in text
    assert row["fgsm:0.1"]["through"] <= row["clean"]
    guided = found["rows"]["guided denoiser"]["fgsm:0.1"]
    assert guided["through"] <= guided["unseen"]
    stronger = found["stronger"]
    assert stronger["images"] == 10 and set(stronger["rows"]) == set(
        found["rows"]
    )
    for name, row in stronger["rows"].items():
        pgd, apgd = row.values()
        assert f"| {name} | {pgd:.3f} | {apgd:.3f} |\n" in text
    defences.write_page(page, found)
    assert page.read_text() == text
