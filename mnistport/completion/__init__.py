"""Scripts with which bash and zsh complete commands, options and their values.

`shtab` makes a script from a parser of argparse. It is made once and kept in a file, so
that pressing the tab key starts no Python.
"""
