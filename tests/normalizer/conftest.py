"""Hypothesis without a deadline for one example: on a busy machine it would measure the machine."""

from hypothesis import settings

settings.register_profile("omniline", deadline=None)
settings.load_profile("omniline")
