import keras
import numpy as np
import pytest

from keras_polynets.robustness import fgsm
from keras_polynets.robustness import robust_accuracy

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)


class Threshold(keras.Sequential):
    """Class 1 where the input is positive."""

    input_range = (-1.0, 1.0)

    def __init__(self):
        super().__init__([keras.Input((1,)), keras.layers.Dense(2)])
        self.layers[-1].set_weights([np.array([[-1.0, 1.0]]), np.zeros(2)])
        self.preprocessor = keras.layers.Rescaling(1 / 127.5, offset=-1.0)


IMAGES = np.array([[-0.5], [-0.05], [0.05], [0.2], [0.5]], "float32")
LABELS = np.array([0, 0, 1, 1, 0])


def test_clean_accuracy():
    assert robust_accuracy(Threshold(), (IMAGES, LABELS), verbose=0) == 0.8


@on_tensorflow
@pytest.mark.parametrize("batch_size", [1, 2, 5, 500])
def test_attacked_accuracy(batch_size):
    # Only the images farther than epsilon from 0 and right stay right.
    for attack in ("fgsm:0.1", "pgd:0.1,20,0.01", fgsm):
        accuracy = robust_accuracy(
            Threshold(),
            (IMAGES, LABELS),
            attack,
            batch_size=batch_size,
            verbose=0,
        )
        assert accuracy == 0.4


def test_attack_is_any_callable():
    accuracy = robust_accuracy(
        Threshold(),
        (IMAGES, LABELS),
        lambda model, images, labels: -images,
        verbose=0,
    )
    assert accuracy == pytest.approx(0.2)


def test_stored_images_go_through_the_preprocessor():
    stored = np.array([[0], [127], [128], [255]], "uint8")
    labels = np.array([0, 0, 1, 1])
    assert robust_accuracy(Threshold(), (stored, labels), verbose=0) == 1.0


def test_an_iterable_of_batches():
    batches = [(IMAGES[:3], LABELS[:3]), (IMAGES[3:], LABELS[3:])]
    for dataset in (iter(batches), batches, list(map(list, batches))):
        assert robust_accuracy(Threshold(), dataset, verbose=0) == 0.8


def test_a_list_of_arrays_or_of_numbers_is_one_of_images_and_labels():
    for count in (2, 5):
        dataset = [IMAGES[:count], LABELS[:count]]
        numbers = [part.tolist() for part in dataset]
        expected = robust_accuracy(Threshold(), tuple(dataset), verbose=0)
        for same in (dataset, numbers):
            assert robust_accuracy(Threshold(), same, verbose=0) == expected


@on_tensorflow
def test_a_tf_dataset_of_batches():
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(2)
    model = Threshold()
    assert robust_accuracy(model, dataset, "fgsm:0.1", verbose=0) == 0.4


@pytest.mark.parametrize("sized", [True, False])
def test_progress_bar_counts_batches(sized, capsys):
    dataset = (IMAGES, LABELS)
    if not sized:
        dataset = ((IMAGES[i : i + 2], LABELS[i : i + 2]) for i in (0, 2, 4))
    robust_accuracy(Threshold(), dataset, batch_size=2, verbose=1)
    written = capsys.readouterr().out
    assert "3/3" in written and "accuracy: 0.8" in written
    assert ("Unknown" in written) is not sized


def test_silence(capsys):
    robust_accuracy(Threshold(), (IMAGES, LABELS), verbose=0)
    assert capsys.readouterr().out == ""


def test_integer_images_need_a_preprocessor():
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(2)], name="bare"
    )
    with pytest.raises(ValueError, match="uint8 need a preprocessor.*'bare'"):
        robust_accuracy(model, (np.zeros((2, 1), "uint8"), [0, 1]), verbose=0)


@pytest.mark.parametrize("dataset", [(IMAGES[:0], LABELS[:0]), iter([])])
def test_empty_dataset_is_refused(dataset):
    with pytest.raises(ValueError, match="has no images to classify"):
        robust_accuracy(Threshold(), dataset, verbose=0)


def test_labels_must_fit():
    with pytest.raises(ValueError, match="one label an image"):
        robust_accuracy(Threshold(), (IMAGES, LABELS[:3]), verbose=0)
    with pytest.raises(ValueError, match="a batch .*type ndarray. Pass images"):
        robust_accuracy(Threshold(), IMAGES, verbose=0)
    with pytest.raises(ValueError, match=r"Received: \(5, 1\), int"):
        robust_accuracy(Threshold(), (IMAGES, 3), verbose=0)
    with pytest.raises(ValueError, match=r"Received: list of 5, \(3,\)"):
        ragged = [[1], [2, 3], [4], [5], [6]]
        robust_accuracy(Threshold(), (ragged, LABELS[:3]), verbose=0)
    with pytest.raises(ValueError, match="One-hot labels become classes by"):
        one_hot = np.eye(2)[LABELS]
        robust_accuracy(Threshold(), (IMAGES, one_hot), verbose=0)


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (IMAGES, LABELS + 100, "Labels must be classes from 0 to 1.*101"),
        (IMAGES * 100, LABELS, r"in the valid range \[-1.0, 1.0\]"),
        (IMAGES * np.nan, LABELS, "must be finite"),
        (IMAGES[:, :0], LABELS, "must have the model's input shape"),
    ],
)
def test_clean_data_must_fit_the_model(images, labels, message):
    with pytest.raises(ValueError, match=message):
        robust_accuracy(Threshold(), (images, labels), verbose=0)


def test_accuracy_is_that_of_a_classifier():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"of shape \(5, 1\) from model"):
        robust_accuracy(model, (IMAGES, LABELS), verbose=0)


def test_logits_must_be_finite():
    model = Threshold()

    def attack(model, images, labels):
        return images * np.nan

    with pytest.raises(ValueError, match="logits that are not finite"):
        robust_accuracy(model, (IMAGES, LABELS), attack, verbose=0)
    model.set_weights([w * np.nan for w in model.get_weights()])
    with pytest.raises(ValueError, match="logits that are not finite"):
        robust_accuracy(model, (IMAGES, LABELS), verbose=0)


def test_attack_must_be_one():
    with pytest.raises(TypeError, match="or a callable.* Received: 3"):
        robust_accuracy(Threshold(), (IMAGES, LABELS), 3, verbose=0)


def test_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="`batch_size` must be an integer"):
        robust_accuracy(Threshold(), (IMAGES, LABELS), batch_size=0)
