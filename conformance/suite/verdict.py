"""What came of one test: from its output (TAP) and exit code to a verdict."""

import re
from dataclasses import dataclass
from typing import Literal

Word = Literal["pass", "fail", "skip"]

RESULT = re.compile(r"^(?P<bad>not )?ok\b(?P<rest>.*)$")
DIRECTIVE = re.compile(r"#\s*(?P<word>skip|todo)\b", re.IGNORECASE)
# How the tests of hooks, which count no results, say that they failed.
DIAGNOSTIC = re.compile(r'^\s*"error":\s*"(?P<text>.*)"')


@dataclass(frozen=True)
class Verdict:
    """pass, fail or skip, and why."""

    word: Word
    why: str = ""


def of(output: str, errors: str, code: int) -> Verdict:
    """The verdict of a test that wrote `output` and `errors` and ended with this code.

    A test passes if it ends well, no result is "not ok", and at least one is "ok". One without any result (seven tests
    of hooks are written so) passes if it gives no error as a diagnostic either: TAP alone would call it passed
    whatever happened.
    """
    results = [match for line in output.splitlines() if (match := RESULT.match(line))]
    bad = [m["rest"].strip(" -0123456789") for m in results if m["bad"] and not _is(m, "todo")]
    if bad:
        return Verdict("fail", f"{len(bad)} of {len(results)} not ok: {bad[0]}")
    if code != 0:
        said = " / ".join(errors.strip().splitlines()) or "no message"
        return Verdict("fail", f"exit {code}: {said[:300]}")
    if results and all(_is(match, "skip") for match in results):
        return Verdict("skip", results[0]["rest"].strip())
    if not results:
        said = [match["text"] for line in output.splitlines() if (match := DIAGNOSTIC.match(line))]
        return Verdict("fail", said[0]) if said else Verdict("pass", "no result, no error")
    return Verdict("pass")


def _is(result: re.Match[str], word: str) -> bool:
    directive = DIRECTIVE.search(result["rest"])
    return directive is not None and directive["word"].lower() == word
