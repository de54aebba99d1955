"""`--workers N`: several processes behind the same ports, started and watched by one that serves nothing, and counted as one."""
