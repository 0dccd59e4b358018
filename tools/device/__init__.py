"""What only a device can tell: numbers in half precision, seconds, memory."""
