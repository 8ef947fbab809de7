"""The classes of data that a payload rule can name, each with one sentence of what counts.

- The list is fixed: a grants file that names another class is refused where it is loaded.
- A class says what kind of data was found, never what it was.
"""

from collections.abc import Mapping
from typing import Final

# In the order of the alphabet, which is the order of every list of classes that we give.
MEANINGS: Final[Mapping[str, str]] = {
    "card_number": "a payment card number of a known issuer range whose check digit is right",
    "email": "an e-mail address",
    "iban": "an IBAN of a known country with its length and its check digits",
    "national_id": "a national identity number of a clear form: US SSN, UK NINO, French NIR, Italian codice "
    "fiscale, Swiss AHV number, Brazilian CPF",
    "phone": "a telephone number in international form, beginning with a plus sign",
    "private_key": "a private key: PEM, OpenSSH, PuTTY, age, a JWK, or the known beginning of one in base64",
    "secret": "a token with the known prefix of its provider, a JWT, a credential in a URL or behind Bearer "
    "or Basic, or a member that is named as a password is",
}
PAYLOAD_CLASSES: Final = tuple(MEANINGS)
