"""The command line: one small module a command.

`parser` is the tree of commands and options, `dispatch` finds the module, `failure` prints errors and picks exit
statuses. Each command's module has ``run(options) -> int`` and imports what is heavy inside of it.
"""
