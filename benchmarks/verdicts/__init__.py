"""Known faults and healthy runs: what the verdicts say of them (docs/verdicts.md).

`nets` and `optimizers` are what is trained, `loop` is the training loop of a user. A fault
(`faults_*`) edits this loop as users do by mistake; `plan` pairs faults with nets and optimizers.
`judging` compares what was recorded and holds it against what is known; `page` prints it.
"""
