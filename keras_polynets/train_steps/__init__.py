"""Losses and updates of training steps, and what of them a backend needs."""
