"""For all tests: none fails because a machine is busy, and CI runs the same Hypothesis examples each time."""

import os

from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.register_profile("everywhere", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("everywhere" if os.environ.get("CI") else "here")
