"""What comes back from a service: whose call it answers, lists cut to what that caller could use."""
