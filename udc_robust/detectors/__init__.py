"""Detectors: scores of how much an image looks attacked, learnt from clean images alone."""
