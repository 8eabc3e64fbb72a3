"""Lines that make up one message. Pure."""

from __future__ import annotations

import dataclasses

QUOTES = '"""'


@dataclasses.dataclass(slots=True)
class Draft:
    """A message that is being typed: of one line, or of several with a backslash at the end or between quotes."""

    lines: list[str] = dataclasses.field(default_factory=list)
    quoted: bool = False

    @property
    def is_open(self) -> bool:
        """True if the message goes on."""
        return bool(self.lines) or self.quoted

    def add(self, line: str) -> str | None:
        """Take a line, and return the message once it is whole."""
        if not self.is_open and line.lstrip().startswith(QUOTES):
            self.quoted = True
            line = line.lstrip().removeprefix(QUOTES)
        if self.quoted:
            return self._add_quoted(line)
        if line.endswith("\\"):
            self.lines.append(line.removesuffix("\\"))
            return None
        return self._whole(line)

    def _add_quoted(self, line: str) -> str | None:
        if line.rstrip().endswith(QUOTES):
            return self._whole(line.rstrip().removesuffix(QUOTES))
        self.lines.append(line)
        return None

    def _whole(self, line: str) -> str:
        text = "\n".join([*self.lines, line])
        # The line ends beside the quotes are for the eye.
        text = text.removeprefix("\n").removesuffix("\n") if self.quoted else text
        self.lines, self.quoted = [], False
        return text
