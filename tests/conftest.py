"""No property has a deadline: how long a case takes says nothing about whether it holds."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
