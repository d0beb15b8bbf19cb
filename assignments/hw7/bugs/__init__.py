"""Find the bug: four small programs that run without an error and are wrong. Each comes from published course code."""
