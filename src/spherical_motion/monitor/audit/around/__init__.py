"""What stands around a step: norm layers, gradients, counters, and who holds the weights.

In: a model, an optimizer and the watched parameters. Out: columns and facts of an audited step, and
events where weights are left behind. `looks` joins them to the audit.
"""
