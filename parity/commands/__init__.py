"""The commands of `parity`, one file each.

Each has `arguments(parser)`, which adds its options, and `run(args, words)`, which
returns the exit status. `--help` imports these files, so heavy imports are inside `run`.
"""
