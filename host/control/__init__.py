"""ControlNets whose influence follows the timestep, under the host."""
