"""The command line: one module a verb, with HELP, add_arguments(parser) and run(args) -> exit code."""
