"""What kinds of data a call carries that should perhaps not leave."""
