"""What the API and the workers must agree on. No torch, no FastAPI."""
