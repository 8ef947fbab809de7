"""What one reason code says: the form of its answer, a sentence for the refused, what to do about it."""

from dataclasses import dataclass

from authz.form import Form


@dataclass(frozen=True, slots=True)
class Text:
    """What one code says."""

    form: Form
    sentence: str
    fix: str
