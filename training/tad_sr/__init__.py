"""One-step distillation: TAD-SR, its ablations, SinSR, and ResShift's own loss."""
