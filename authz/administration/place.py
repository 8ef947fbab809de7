"""Where administration is found: below the issuer's path, and on the private socket of the data directory.

- It is apart from what serves it, so that the command line starts without that.
"""

from typing import Final

ADMIN: Final = "/admin/v1"
API_SOCKET: Final = "api.sock"
