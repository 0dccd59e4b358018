"""`dev.py fullsize`: the product's own path at published size on fake CUDA tensors: devices, dtypes, work, memory, waits."""
