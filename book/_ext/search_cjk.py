"""Full-text search that finds Japanese and Chinese words of any length.

These scripts put no space between words. A run of their characters is indexed as each
character and each pair of neighbours; a query is cut into its pairs, all of which a page
must hold. Everything else is Sphinx's English search.
"""

import re

from sphinx.search.en import SearchEnglish

CJK = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
RUN = re.compile(f"[{CJK}]+")


class SearchEnglishCJK(SearchEnglish):
    lang = "en-cjk"
    # In two passes, as in Python; a lone character stands for itself.
    js_splitter_code = f"""
function splitQuery(query) {{
  const terms = query.split(/[^\\p{{L}}\\p{{N}}_\\p{{Emoji_Presentation}}]+/u);
  return terms.flatMap((term) => term.split(/([{CJK}]+)/u)).flatMap((term) => {{
    if (!/^[{CJK}]/u.test(term)) return term || [];
    return term.length < 2 ? term : [...term.slice(1)].map((c, i) => term[i] + c);
  }});
}}
"""

    def split(self, input: str) -> list[str]:
        words = []
        for word in super().split(RUN.sub(" ", input)):
            words.append(word)
        for run in RUN.findall(input):
            words += run
            words += [run[i : i + 2] for i in range(len(run) - 1)]
        return words

    def word_filter(self, word: str) -> bool:
        return bool(RUN.match(word)) or super().word_filter(word)


def setup(app):
    app.add_search_language(SearchEnglishCJK)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
