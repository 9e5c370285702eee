"""How long tests wait for what has to come.

This guards against hanging and judges no speed: it is long enough for a slow machine that does
much else. What is about speed names its own limit, and says what would take longer.
"""

PATIENCE_S = 60.0
