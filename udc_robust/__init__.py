"""Measure and harden image restoration for under-display cameras against adversarial perturbations."""

__version__ = "0.1.0"
