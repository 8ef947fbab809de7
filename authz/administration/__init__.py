"""Orders of administrators: who asks, may they, recorded, done."""
