"""A page as a browser would read it."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would make of a page, as far as the tests ask."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.parts: dict[str, str] = {}
        self.text = ""
        self.cells: list[str] = []
        self._open = ""
        self._is_in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._open = tag
        if tag in ("th", "td"):
            self.cells.append("")
            self._is_in_cell = True
        self.text += " "

    def handle_data(self, data: str) -> None:
        if self._open in ("style", "script"):
            self.parts[self._open] = self.parts.get(self._open, "") + data
            return
        self.text += data
        if self._is_in_cell:
            self.cells[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""
        self._is_in_cell &= tag not in ("th", "td")

    def attributes(self, tag: str, name: str) -> list[str]:
        return [attrs[name] for one, attrs in self.tags if one == tag and name in attrs]
