"""Where a latent prior comes from: folders of weights on this machine, never the network."""
