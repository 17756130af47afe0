"""For all tests: none fails because a machine is busy, and CI runs the same Hypothesis examples each time."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "everywhere", settings.get_profile("here"), derandomize=True, database=None, print_blob=True
)
settings.load_profile("everywhere" if os.environ.get("CI") else "here")
