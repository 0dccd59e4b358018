"""`dev.py fullsize`: every method at published size on fake CUDA tensors: mixed devices and dtypes, work, memory, synchronisation."""
