"""Federated generative models for medical images: from validated hospital data to a registered model."""

__version__ = "0.1.0"
