"""How input reaches the disk: rows taken, a thread that stores them, tables that grow.

In: what a training loop gives, the facts of a run, a run directory. Out: its files, and waits that
end. `blocks` and `scalars` copy on the training thread, `pending` holds what waits, `worker` is
the thread, and `store` begins or goes on with a claimed directory, appends and merges.
"""
