"""The tree of commands and options, a module a part; `opsconsole.cli.parser` puts it together."""
