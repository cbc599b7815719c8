"""The command line: one file per subcommand. Printing, progress and exit codes live here and nowhere else."""
