"""What is handed in: the zip, and the report notebook in it, repaired where it was damaged."""
