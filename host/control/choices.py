"""What the nodes of time-aware ControlNets offer, apart from what runs them: the host reads all schemas at its start."""

EPS, V = "eps", "v"
FROM_THE_CONTROLNET_FILE = "(from the ControlNet file)"
TRAINED, TRAINING_FREE, BOTH = "trained", "training-free", "both"
