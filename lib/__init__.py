"""The shared code of The Glass Box."""
