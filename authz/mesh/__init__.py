"""What a mesh needs to ask Deputy: its configuration, its certificates, its process."""
