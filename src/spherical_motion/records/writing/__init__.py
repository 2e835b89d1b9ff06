"""How input reaches the disk: copied on the training thread, stored on another one.

In: what a training loop gives. Out: calls of a `RunStore`, and waits that end.
"""
