"""Model files: read only as they were declared, checked, and loaded without running foreign code.

`verify` looks at them before a canary starts; `analysis` loads the same bytes to compute with.
"""
