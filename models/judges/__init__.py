"""Networks that judge what others make while these are trained; no node runs them."""
