"""Does an authorization server keep the rules of delegation? Asked from outside, as any client could."""
