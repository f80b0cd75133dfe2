"""Tasks: where prompts, references, reward models and evaluators come from."""
