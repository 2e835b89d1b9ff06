"""The audit of single steps: replayed by the optimizer's rule, and what was around them.

In: a model, its optimizers and the watched parameters. Out: rows of the audit's two tables.
"""
