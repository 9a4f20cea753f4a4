"""The logit-guided loss, on every backend."""

from keras import ops


def logit_guided_loss(logits, clean):
    """Returns how far logits are from those of the clean image, each example.

    `sum_k |logits_k - clean_k|`: what a denoiser is to lower, with `logits`
    those of a classifier on the denoised image and `clean` those of the same
    classifier on the image before any noise. Nothing is derived from `clean`.

    Args:
        logits: Float tensor of shape `(batch_size, classes)`.
        clean: Float tensor of the same shape.

    Returns:
        Float tensor of shape `(batch_size,)`.

    Reference:
        - Liao et al., "Defense against Adversarial Attacks Using High-Level
          Representation Guided Denoiser", CVPR 2018: the logits guided
          denoiser (LGD).
    """
    return ops.sum(ops.abs(logits - ops.stop_gradient(clean)), axis=-1)
