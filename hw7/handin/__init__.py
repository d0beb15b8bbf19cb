"""What is handed in: the zip, and the report notebook in it, put right where it was damaged."""
