"""Data drawn by a program, so that a demo and a test need no download."""
