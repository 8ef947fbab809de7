"""The form of a request in which a client logs in: at the token endpoint, and where it asks about a token.

- A client logs in with its certificate or a JWT-SVID: no header of another login is read (CA-04).
- It is a form, and nothing else; what is wrong with it is said without a value of it.
"""

from authz.broker.arrival import Arrival
from authz.broker.form import Form, FormError, is_form
from authz.broker.refusal import malformed, oauth_error
from authz.broker.token_request import client_assertion
from identity.errors import ExchangeError


def login_form(arrival: Arrival) -> tuple[Form, str | None]:
    """Return the form, and the JWT-SVID in it.

    Raises:
        RefusedError: if it is none, or there are two logins.
    """
    if arrival.has_authorization:
        raise malformed("a client logs in with its certificate or a JWT-SVID, and nothing else")
    if not is_form(arrival.content_type):
        raise malformed("the content type is not application/x-www-form-urlencoded")
    try:
        form = Form.parse(arrival.bounded_body())
        return form, client_assertion(form)
    except FormError as error:
        raise malformed(str(error)) from error
    except ExchangeError as error:
        raise malformed(error.description, oauth_error(error.error)) from error
