"""Shared memory of clients on this machine: POSIX objects and CUDA's, registered, bounded, read and written."""
