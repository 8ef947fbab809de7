"""AuthZEN Authorization API 1.0: the one flow, for gateways that have no ext_authz."""
