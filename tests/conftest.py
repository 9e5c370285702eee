"""What every test shares: how property tests look for examples."""

from __future__ import annotations

import os

from hypothesis import settings

# The same examples at every run: a check that holds today holds tomorrow, on a slow machine too.
settings.register_profile("steady", deadline=None, derandomize=True)
# New examples at every run, and many of them: for looking for bugs by hand (`just explore`).
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
