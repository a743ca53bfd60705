"""Posterior sampling with latent diffusion (PSLD). The algorithm alone: torch, and nothing of the service."""
