"""From a configuration to runs, files, jobs and their cost; nothing is computed here."""
