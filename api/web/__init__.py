"""The pages for people. They show what the REST API tells, and call the same functions."""
