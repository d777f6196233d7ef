"""What this machine has: processor, cores, memory, edgeft's C library."""
