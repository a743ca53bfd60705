"""The GPU side: the sampling algorithm, the priors it runs on, and the tasks around them."""
