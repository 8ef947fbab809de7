"""Generated message modules; `tools/protos.py` writes them from proto/identity/pb."""
