"""Independent libraries must not find more with the same budget."""

import keras
import numpy as np
import pytest

from keras_polynets import data
from keras_polynets import zoo
from keras_polynets.robustness import robust_accuracy

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)

EPSILON, STEPS, STEP_SIZE = 0.1, 20, 0.01
# Accuracy that a peer may leave below ours: 1 % of the images.
TOLERANCE = 0.01


def examples(model, count):
    dataset = data.load("fashion_mnist_sample")
    images = np.asarray(model.preprocessor(dataset.x_test[:count]))
    return images, np.asarray(dataset.y_test[:count])


def accuracy(model, images, labels):
    return robust_accuracy(model, (np.asarray(images), labels), verbose=0)


def foolbox_pgd(model, images, labels):
    foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")
    import tensorflow as tf

    attack = foolbox.attacks.LinfPGD(
        rel_stepsize=None, abs_stepsize=STEP_SIZE, steps=STEPS
    )
    wrapped = foolbox.TensorFlowModel(model, bounds=(-1, 1))
    # Of the type of its predictions: other ones fail on NumPy 2.
    labels = tf.constant(labels, "int64")
    return attack(wrapped, tf.constant(images), labels, epsilons=EPSILON)[1]


def art_classifier(model):
    pytest.importorskip(
        "art", reason="adversarial-robustness-toolbox is not installed"
    )
    from art.estimators.classification import TensorFlowV2Classifier

    return TensorFlowV2Classifier(
        model=lambda x, training=False: model(x, training=False),
        nb_classes=10,
        input_shape=(28, 28, 1),
        loss_object=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        ),
        clip_values=(-1, 1),
    )


def art_pgd(model, images, labels):
    classifier = art_classifier(model)
    from art.attacks.evasion import ProjectedGradientDescent

    return ProjectedGradientDescent(
        classifier,
        eps=EPSILON,
        eps_step=STEP_SIZE,
        max_iter=STEPS,
        num_random_init=1,
        batch_size=200,
        verbose=False,
    ).generate(images, labels)


def art_apgd(loss):
    def attack(model, images, labels):
        classifier = art_classifier(model)
        from art.attacks.evasion import AutoProjectedGradientDescent

        return AutoProjectedGradientDescent(
            classifier,
            eps=EPSILON,
            eps_step=2 * EPSILON,
            max_iter=STEPS,
            nb_random_init=1,
            batch_size=200,
            loss_type=loss,
            verbose=False,
        ).generate(images, labels)

    return attack


PGD = f"pgd:{EPSILON},{STEPS},{STEP_SIZE},random_start=true"
PEERS = {
    "foolbox PGD": (foolbox_pgd, PGD),
    "ART PGD": (art_pgd, PGD),
    "ART APGD-CE": (art_apgd("cross_entropy"), f"apgd:{EPSILON},{STEPS}"),
    "ART APGD-DLR": (
        art_apgd("difference_logits_ratio"),
        f"apgd:{EPSILON},{STEPS},loss=dlr",
    ),
}


FEW = [("pn4.fashion_mnist_projected", 200, peer) for peer in PEERS] + [
    ("pn_conv.fashion_mnist_projected", 100, peer)
    for peer in ("foolbox PGD", "ART APGD-DLR")
]
MANY = [
    pytest.param(f"{model}.{tag}", 1000, peer, marks=pytest.mark.slow)
    for model in ("pn4", "pn_conv")
    for tag in ("fashion_mnist", "fashion_mnist_projected")
    for peer in PEERS
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, count, peer", FEW + MANY)
def test_peers_do_not_find_more(name, count, peer):
    model = zoo.load(name)
    images, labels = examples(model, count)
    attack, ours = PEERS[peer]
    theirs = attack(model, images, labels)
    assert np.abs(theirs - images).max() <= EPSILON + 1e-6
    left = accuracy(model, theirs, labels)
    ours = robust_accuracy(model, (images, labels), ours, verbose=0)
    print(f"{name}, {count} images, {peer}: theirs {left}, ours {ours}")
    # That both attack at all: the clean accuracy is far above.
    assert max(ours, left) < accuracy(model, images, labels) - 0.05
    assert left >= ours - TOLERANCE
