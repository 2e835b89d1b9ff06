"""The run that a monitor records into: how it is named and announced, and how it ends.

In: what hooks report. Out: calls of a `RunWriter`, and never an exception.
"""
