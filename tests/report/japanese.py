"""What of a page is in Japanese, and what is not."""

import re


def in_japanese(text):
    return re.search(r"[ぁ-んァ-ヶ一-龠]", text) is not None


def english_in(page):
    """Return the texts of a page that are English terms of two words or more, licences left out."""
    page = re.sub(r"<style>.*?</style>|<code>.*?</code>|<pre.*?</pre>", "", page, flags=re.DOTALL)
    named = re.findall(r'(?:aria-label|data-label|alt)="([^"]*)"', page)
    texts = {text.strip() for text in [*re.split(r"<[^>]*>", page), *named]}
    found = {text for text in texts if re.search("[A-Za-z]{2,} [a-z]{2,}", text)}
    return sorted(t for t in found if not in_japanese(t) and not re.search("Licen[cs]e|GPL", t))
