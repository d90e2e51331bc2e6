"""Keep the site small and free of requests to other hosts.

The theme ships what this book does not use: a script for live code (it is fetched from
elsewhere) and some 2,000 icons.
"""

import re
from pathlib import Path

ICON = re.compile(
    r'"?(?P<name>[a-z0-9-]+)"?:\[\d+,\d+,\[(?P<aliases>[^\]]*)\],"[0-9a-f]+",'
    r'(?:"[^"]*"|\["[^"]*","[^"]*"\])\],?'
)


def _leave_out_thebe(app, pagename, templatename, context, doctree):
    for kind in ("script_files", "css_files"):
        context[kind] = [
            file
            for file in context.get(kind, [])
            if "thebe"
            not in f"{file.filename} {file.attributes.get('body', '')}".lower()
        ]


def _prune_icons(app, exception):
    """Keep the icons that a page uses: 540 KB of script become 20 KB."""
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    script = out / "_static" / "scripts" / "fontawesome.js"
    texts = [page.read_text("utf8") for page in out.rglob("*.html")]
    texts += [theme.read_text("utf8") for theme in script.parent.glob("*theme.js")]
    used = set(re.findall(r"fa-([a-z0-9-]+)", "".join(texts)))

    def keep(match):
        names = {match["name"], *re.findall(r'"([^"]+)"', match["aliases"])}
        return match[0] if names & used else ""

    # The theme's own copy, so that a second build can bring back an icon.
    source = _theme_script()
    script.write_text(ICON.sub(keep, source.read_text("utf8")), "utf8")
    for source_map in (out / "_static").rglob("*.map"):
        source_map.unlink()


def _theme_script() -> Path:
    import pydata_sphinx_theme

    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme"
    return theme / "static" / "scripts" / "fontawesome.js"


def setup(app):
    app.connect("html-page-context", _leave_out_thebe, priority=900)
    app.connect("build-finished", _prune_icons)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
