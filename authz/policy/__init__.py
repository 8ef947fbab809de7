"""What callers may do: the port to the policy, its engines, the grants and the shipped Rego."""
