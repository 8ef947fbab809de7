"""The identity authority as a service: sockets, duties and the endpoints that others read."""
