"""Web pages of boards, runs, protocols, episodes and the papers' tables: one file each, which needs no network.

The figures are SVG, drawn here when a page is written; a script of a few kilobytes sorts and filters tables. The
libraries that work offline would put their bundle into every page that is to be mailed or opened from disk by itself:
about 0.8 MB for Vega-Lite with Vega and its embedder, and more than the 3 MB that a page may have for the whole of
Plotly. A board of 20 entries, all its figures drawn, has some 200 kB; they are there before a script runs, print, zoom,
follow the page's light and dark colours, and are read by a screen reader, since each mark carries its words.

Whatever comes from files is text. Templates escape it, SVG is built as a tree of elements, control and direction
characters are spelt out (`harness.util.shown_text`), names of files are made from safe characters alone, and each page
has a content security policy that allows its own script and style by their hash and nothing else.
"""
