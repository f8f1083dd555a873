"""What each first word of the command line does: `arguments(parser)`, and `run(args, words)`, the exit status.

These modules are imported to answer `--help`, so what is heavy is imported by `run`.
"""
