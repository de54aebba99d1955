"""The page that a program shows in a browser: its files, the stream that keeps it current, its charts' history, and a report."""
