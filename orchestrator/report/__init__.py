"""From the facts of a run to one page that anybody can open: no network, no scripts, plots inline.

`data` is what a run has to say, typed, and is written as JSON next to the page; `plots` turns series into inline SVG
(matplotlib, imported only here and only when a page is made); `page` puts both into one HTML file. Nothing here measures
or judges: verdicts arrive with the data.
"""
