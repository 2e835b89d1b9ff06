"""The recursion that SGD's norm obeys exactly, and how long it takes to settle.

In: ηλ, momentum and a family's coefficients. Out: steps. `step.py` is the recursion, `settling.py`
counts its steps, also where there are far too many to take one by one.
"""
