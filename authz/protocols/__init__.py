"""What a request asks for: read strictly, and refused where two readers could disagree."""
