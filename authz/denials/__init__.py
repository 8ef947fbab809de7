"""What a refusal says, in the words of each protocol: plain values in, the text of an answer out."""
