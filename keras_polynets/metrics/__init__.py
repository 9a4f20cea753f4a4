"""Metrics that Keras lacks."""

from keras_polynets.metrics.image_quality import PeakSignalToNoiseRatio
from keras_polynets.metrics.image_quality import StructuralSimilarity

__all__ = ["PeakSignalToNoiseRatio", "StructuralSimilarity"]
