"""Training a prior from pictures."""
