"""Makes the pages anew: `python -m tests.docs`."""

from tests.docs.pages import DOCS, MADE

for name, page in MADE.items():
    (DOCS / name).write_text(page())
    print(f"docs/{name}")
